"""Settings: where a value comes from, what is refused, and that secrets do not show."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from settings import Environment, InvalidSettings, Settings, UnsafeSettings, load_settings, load_temporal

KEY = "1:" + base64.urlsafe_b64encode(bytes(32)).decode()
SAFE = {
    "ACCORD_ENV": "production",
    "ACCORD_DATABASE_URL": "postgresql+psycopg://accord:hidden@db:5432/accord",
    "ACCORD_KEY_PEPPER": "pepper-that-nobody-sees",
    "ACCORD_VAULT_KEYS": KEY,
    "ACCORD_CURSOR_KEYS": KEY,
    "ACCORD_PAYMENT": "real",
    "ACCORD_CARRIER": "real",
    "ACCORD_WAREHOUSE": "real",
    "ACCORD_NOTIFY": "real",
}


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No stack runs where these tests look."""
    monkeypatch.chdir(tmp_path)


def _set(patch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in values.items():
        patch.setenv(name, value)


def test_production_starts_with_everything_real(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every secret set and no simulated provider, production is accepted and defaults are the strict ones."""
    _set(monkeypatch, SAFE)
    settings = load_settings()
    assert settings.env is Environment.PRODUCTION
    assert settings.direct_commands.value == "limited"
    assert settings.worker_sandbox is False


@pytest.mark.parametrize("name", [name for name in SAFE if name != "ACCORD_ENV"])
def test_production_refuses_each_unsafe_default(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaving out any one of them is refused, and the refusal names it."""
    _set(monkeypatch, {key: value for key, value in SAFE.items() if key != name})
    with pytest.raises(UnsafeSettings) as refusal:
        load_settings()
    assert len(refusal.value.problems) == 1
    assert refusal.value.problems[0].startswith(name)


def test_production_refuses_free_direct_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """A switch for development does not reach production."""
    _set(monkeypatch, {**SAFE, "ACCORD_DIRECT_COMMANDS": "allow"})
    with pytest.raises(UnsafeSettings, match="ACCORD_DIRECT_COMMANDS"):
        load_settings()


def test_production_ignores_what_a_laptop_generated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Secrets and addresses of a development stack in this folder do not count."""
    folder = tmp_path / ".accord"
    folder.mkdir()
    (folder / "secrets.toml").write_text(f'[settings]\nkey_pepper = "generated"\nvault_keys = "{KEY}"\n')
    _set(monkeypatch, {name: value for name, value in SAFE.items() if "PEPPER" not in name})
    with pytest.raises(UnsafeSettings, match="ACCORD_KEY_PEPPER"):
        load_settings()


def test_secrets_come_from_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`ACCORD_X_FILE` names a file; its last line break does not belong to the secret."""
    (tmp_path / "pepper").write_text("from-a-file\n")
    monkeypatch.setenv("ACCORD_KEY_PEPPER_FILE", str(tmp_path / "pepper"))
    assert load_settings().pepper == b"from-a-file"


def test_a_secret_in_two_places_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody has to guess which of two values counts."""
    (tmp_path / "pepper").write_text("one")
    _set(monkeypatch, {"ACCORD_KEY_PEPPER_FILE": str(tmp_path / "pepper"), "ACCORD_KEY_PEPPER": "two"})
    with pytest.raises(InvalidSettings, match="ACCORD_KEY_PEPPER_FILE"):
        load_settings()


def test_an_unreadable_secret_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A wrong path is a clear refusal, not a missing secret."""
    monkeypatch.setenv("ACCORD_KEY_PEPPER_FILE", str(tmp_path / "absent"))
    with pytest.raises(InvalidSettings, match="ACCORD_KEY_PEPPER_FILE"):
        load_settings()


def test_secrets_print_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the object, nor its JSON, nor an error shows a secret."""
    _set(monkeypatch, SAFE)
    settings = load_settings()
    shown = repr(settings) + str(settings) + settings.model_dump_json()
    assert "hidden" not in shown
    assert "pepper-that-nobody-sees" not in shown
    monkeypatch.setenv("ACCORD_VAULT_KEYS", "1:not-a-key-but-secret")
    with pytest.raises(InvalidSettings) as refusal:
        load_settings()
    assert "not-a-key-but-secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nonsense", "must look like"),
        ("1:AAAA", "must have 32 bytes"),
        (f"{KEY},{KEY}", "same version"),
    ],
)
def test_key_rings_are_checked_at_the_start(text: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that cannot be used stops the process before the first request."""
    monkeypatch.setenv("ACCORD_CURSOR_KEYS", text)
    with pytest.raises(InvalidSettings, match=reason):
        load_settings()


MAIL = {"ACCORD_NOTIFY": "smtp", "ACCORD_SMTP_HOST": "mail.example", "ACCORD_SMTP_SENDER": "shop@shop.example"}


@pytest.mark.parametrize("name", ["ACCORD_SMTP_HOST", "ACCORD_SMTP_SENDER"])
def test_mail_needs_a_host_and_a_sender(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chosen without one of them it is refused at the start, not at the first notice."""
    _set(monkeypatch, MAIL)
    assert (load_settings().smtp_tls, load_settings().smtp_password) == ("starttls", None)
    monkeypatch.delenv(name)
    with pytest.raises(InvalidSettings, match="smtp_host and smtp_sender"):
        load_settings()


def test_the_mail_password_is_a_secret_and_belongs_to_a_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It may come from a file, prints masked, and does not stand alone."""
    (tmp_path / "mail").write_text("mail-secret\n")
    _set(monkeypatch, {**MAIL, "ACCORD_SMTP_PASSWORD_FILE": str(tmp_path / "mail")})
    with pytest.raises(InvalidSettings, match="belong together"):
        load_settings()
    monkeypatch.setenv("ACCORD_SMTP_USER", "shop")
    settings = load_settings()
    assert settings.smtp_password is not None
    assert settings.smtp_password.get_secret_value() == "mail-secret"
    assert "mail-secret" not in repr(settings) + settings.model_dump_json()


def test_production_sends_no_password_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TLS only where nobody logs in, like a relay on the same machine."""
    _set(monkeypatch, {**SAFE, **MAIL, "ACCORD_SMTP_TLS": "none"})
    load_settings()
    _set(monkeypatch, {"ACCORD_SMTP_USER": "shop", "ACCORD_SMTP_PASSWORD": "x"})
    with pytest.raises(UnsafeSettings, match="ACCORD_SMTP_TLS"):
        load_settings()


def test_two_keys_live_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """During a rotation the first key seals and both open."""
    newer = "2:" + base64.urlsafe_b64encode(bytes([7]) * 32).decode()
    monkeypatch.setenv("ACCORD_VAULT_KEYS", f"{newer},{KEY}")
    assert load_settings().vault_key_ring == ((2, bytes([7]) * 32), (1, bytes(32)))


def test_wrong_values_are_all_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One start shows every mistake, and only mistakes."""
    _set(monkeypatch, {"ACCORD_API_PORT": "many", "ACCORD_ENV": "prod"})
    with pytest.raises(InvalidSettings) as refusal:
        load_settings()
    lines = str(refusal.value).splitlines()[1:]
    assert [line.split(":")[0] for line in lines] == [" - ACCORD_ENV", " - ACCORD_API_PORT"]


def test_a_running_stack_is_found_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Commands find the stack of their folder without being told, unless they are told otherwise."""
    folder = tmp_path / ".accord"
    folder.mkdir()
    run = {"database_url": "postgresql+psycopg://a:b@c/d", "api_port": 8123, "temporal_address": "127.0.0.1:9"}
    (folder / "run.json").write_text(json.dumps(run))
    found = load_settings()
    assert (found.dsn, found.api_port) == ("postgresql+psycopg://a:b@c/d", 8123)
    assert load_temporal(found)["target_host"] == "127.0.0.1:9"
    _set(monkeypatch, {"ACCORD_API_PORT": "8999", "TEMPORAL_ADDRESS": "elsewhere:7233"})
    told = load_settings()
    assert told.api_port == 8999
    assert load_temporal(told)["target_host"] == "elsewhere:7233"


def test_no_database_is_a_clear_refusal() -> None:
    """Without a stack and without a setting, the missing setting is named."""
    with pytest.raises(InvalidSettings, match="ACCORD_DATABASE_URL"):
        _ = load_settings().dsn


def test_settings_cannot_change_after_the_start() -> None:
    """What a process was started with is what it runs with."""
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.api_port = 1  # type: ignore[misc]
    assert isinstance(settings, Settings)
