"""docker-compose.yml and Dockerfile, parsed: topology, pins, order, hardening, and the settings that they pass.

There is no container engine where the tests run, so the same entry points are also run natively, as an
unprivileged user in a folder that cannot be written (`tests/e2e/test_stack_confined.py`).
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from devstack import sources
from devstack.versions import TEMPORAL_VERSION, UI_VERSION
from settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("accord-init", "demo-data", "worker", "api")
ENV = dict(line.split("=", 1) for line in (ROOT / ".env").read_text().splitlines() if line and not line.startswith("#"))
# Temporal's exactly, PostgreSQL's by its major version; whoever deploys adds digests (decision 0011).
IMAGES = {
    "postgres": "postgres:18",
    "temporal-schema": "temporalio/admin-tools:1.32.0",
    "temporal": "temporalio/server:1.32.0",
    "temporal-ui": "temporalio/ui:2.54.1",
}


def _resolved(text: str) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda found: ENV[found.group(1)], text)


def test_images_are_the_ones_that_exist_and_are_pinned() -> None:
    """The versions are those that the laptop's stack runs; the deprecated all-in-one image is not used."""
    named = {name: _resolved(service["image"]) for name, service in SERVICES.items() if name not in OURS}
    assert named == IMAGES
    assert (ENV["TEMPORAL_VERSION"], ENV["TEMPORAL_UI_VERSION"]) == (TEMPORAL_VERSION, UI_VERSION)
    assert "auto-setup" not in (ROOT / "docker-compose.yml").read_text()


def test_every_variable_has_a_value() -> None:
    """`.env` is complete, and holds nothing that looks like a secret."""
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    assert used == set(ENV)
    assert not [name for name in ENV if re.search("PASSWORD|SECRET|KEY|TOKEN", name)]


@pytest.mark.parametrize(
    ("service", "waits_for", "condition"),
    [
        ("temporal-schema", "postgres", "service_healthy"),
        ("temporal", "temporal-schema", "service_completed_successfully"),
        ("temporal-ui", "temporal", "service_healthy"),
        ("accord-init", "temporal", "service_healthy"),
        ("accord-init", "postgres", "service_healthy"),
        ("demo-data", "accord-init", "service_completed_successfully"),
        ("worker", "accord-init", "service_completed_successfully"),
        ("api", "accord-init", "service_completed_successfully"),
    ],
)
def test_each_service_waits_for_the_one_before(service: str, waits_for: str, condition: str) -> None:
    """A worker that starts before search attributes can be read would die at its first upsert."""
    assert SERVICES[service]["depends_on"][waits_for]["condition"] == condition


def test_whoever_is_waited_for_by_health_has_a_health_check() -> None:
    """Otherwise the condition would never become true."""
    waited_for = {
        name
        for service in SERVICES.values()
        for name, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_healthy"
    }
    assert waited_for == {"postgres", "temporal"}
    for name in (*waited_for, "api"):
        assert SERVICES[name]["healthcheck"]["test"]


def test_one_off_steps_end_and_processes_come_back() -> None:
    """Steps are not restarted; everything else is."""
    steps = {name for name, service in SERVICES.items() if service["restart"] == "no"}
    assert steps == {"temporal-schema", "accord-init", "demo-data"}
    assert {SERVICES[name]["restart"] for name in SERVICES.keys() - steps} == {"unless-stopped"}


def test_only_the_api_and_the_console_are_published_on_loopback() -> None:
    """Neither PostgreSQL nor the Temporal frontend can be reached from outside."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published.keys() == {"api", "temporal-ui"}
    for ports in published.values():
        assert [_resolved(port).split(":")[0] for port in ports] == ["127.0.0.1"]
    assert COMPOSE["networks"]["inside"]["internal"] is True
    assert {name for name, service in SERVICES.items() if "edge" in service["networks"]} == {"api", "temporal-ui"}


@pytest.mark.parametrize("name", OURS)
def test_our_services_are_confined(name: str) -> None:
    """No root, nothing to write but a scratch folder and the simulated providers' file, no capabilities, limits."""
    service = SERVICES[name]
    assert int(service["user"].split(":")[0]) >= 10_000
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108 - the container's own, in memory
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "cpus", "pids_limit"} <= service.keys()
    assert service["volumes"] == ["simulated:/data"]


@pytest.mark.parametrize("name", ["temporal-schema", "temporal", "temporal-ui"])
def test_engines_have_no_capabilities(name: str) -> None:
    """Images of others are confined as far as they allow."""
    assert SERVICES[name]["cap_drop"] == ["ALL"]
    assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]


def test_the_console_is_for_looking() -> None:
    """Terminating from the UI would skip every release of stock and every refund."""
    assert SERVICES["temporal-ui"]["environment"]["TEMPORAL_DISABLE_WRITE_ACTIONS"] == "true"


def test_the_worker_has_time_to_drain() -> None:
    """The container's grace period is longer than the worker's own."""
    grace_s = int(SERVICES["worker"]["stop_grace_period"].removesuffix("s"))
    assert grace_s >= Settings.model_fields["worker_grace_s"].default + 10


def test_no_secret_in_the_environment() -> None:
    """Secrets are files, every one of them declared, generated and used."""
    for name, service in SERVICES.items():
        for variable in service.get("environment", {}):
            is_secret = re.search("PASSWORD|PWD|PEPPER|KEYS|DATABASE_URL", variable)
            assert not is_secret or variable.endswith("_FILE"), f"{name}: {variable}"
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", ())}
    assert used == set(COMPOSE["secrets"])


@pytest.mark.parametrize("name", OURS)
def test_every_variable_of_ours_is_a_setting(name: str) -> None:
    """A typing mistake here would be ignored by the process, so it must not exist."""
    known = {"ACCORD_" + field.upper() for field in Settings.model_fields}
    known |= {variable + "_FILE" for variable in known}
    passed = {variable for variable in SERVICES[name]["environment"] if variable.startswith("ACCORD_")}
    assert passed
    assert passed <= known


def test_every_mounted_file_exists() -> None:
    """A missing source would be created as an empty folder by the engine."""
    sources_of = [
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
        if volume.startswith("./")
    ]
    assert sources_of
    assert [path for path in sources_of if not (ROOT / path).exists()] == []


def test_generated_secrets_are_private_usable_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One run makes every declared secret, our settings accept them, and a second run changes nothing."""
    folder = tmp_path / "deploy"
    folder.mkdir()
    script = folder / "secrets.sh"
    script.write_bytes((ROOT / "deploy" / "secrets.sh").read_bytes())
    subprocess.run(("sh", str(script)), check=True, capture_output=True)
    made = {path.name: path.read_text() for path in (folder / "secrets").iterdir()}
    assert made.keys() == set(COMPOSE["secrets"])
    assert stat.S_IMODE((folder / "secrets").stat().st_mode) == 0o700
    for name in ("key_pepper", "vault_keys", "cursor_keys", "accord_database_url"):
        variable = "ACCORD_" + name.removeprefix("accord_").upper() + "_FILE"
        monkeypatch.setenv(variable, str(folder / "secrets" / name))
    settings = load_settings(data_dir=tmp_path)
    assert settings.dsn == f"postgresql+psycopg://accord:{made['accord_password']}@postgres:5432/accord"
    assert len(settings.vault_key_ring) == len(settings.cursor_key_ring) == 1
    subprocess.run(("sh", str(script)), check=True, capture_output=True)
    assert {path.name: path.read_text() for path in (folder / "secrets").iterdir()} == made


def test_generated_api_keys_are_keys(tmp_path: Path) -> None:
    """Every role has one, in the form that the API accepts."""
    from api.credentials import key_id_of
    from cli.processes import read_keys
    from devstack.generated import ROLES

    script = tmp_path / "secrets.sh"
    script.write_bytes((ROOT / "deploy" / "secrets.sh").read_bytes())
    subprocess.run(("sh", str(script)), check=True, capture_output=True)
    keys = read_keys(tmp_path / "secrets" / "api_keys", required=True)
    assert tuple(keys) == ROLES
    assert len({key_id_of(key) for key in keys.values()} - {None}) == len(ROLES)


@pytest.mark.parametrize(
    "path",
    ["devstack/config/development.yaml", "devstack/config/test.yaml", "deploy/temporal/production.yaml"],
)
def test_dynamic_configuration_is_known_to_the_server(path: str) -> None:
    """The server itself checks names and types."""
    named = os.environ.get("ACCORD_TEMPORAL_SERVER")
    server = sources.find_temporal(Path(named) if named else None, print, may_fetch=False).server
    answer = subprocess.run(
        (str(server), "validate-dynamic-config", str(ROOT / path)), check=False, capture_output=True, text=True
    )
    assert (answer.returncode, answer.stdout.strip()) == (0, str(ROOT / path))


def test_production_has_no_development_switch() -> None:
    """Neither forced cache refreshes nor time skipping."""
    text = (ROOT / "deploy/temporal/production.yaml").read_text()
    names = {line.split(":")[0] for line in text.splitlines() if line and line[0].isalpha()}
    assert names == {"frontend.namespaceRPS.visibility", "frontend.enablePrincipalPropagation"}


def test_the_image_is_small_in_rights() -> None:
    """Two stages; the last one has no compiler, no root, no secret, and a health check."""
    text = (ROOT / "Dockerfile").read_text()
    stages = text.split("\nFROM ")
    last = stages[-1]
    assert len(stages) == 3
    assert int(re.findall(r"^USER (\d+)", last, re.MULTILINE)[-1]) >= 10_000
    assert "pip install" not in last
    assert "PYTHONDONTWRITEBYTECODE=1" in last
    assert re.search(r"^HEALTHCHECK ", last, re.MULTILINE)
    assert not re.search(r"^(ARG|ENV) .*(PASSWORD|SECRET|TOKEN|KEY)", text, re.MULTILINE)
    assert text.count("--require-hashes") == 2
    assert ":latest" not in text
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"python:3.13-slim"}


def test_no_licence_is_claimed_that_the_project_does_not_state() -> None:
    """The image, the package and the checkout say the same."""
    project = (ROOT / "pyproject.toml").read_text()
    stated = "license" in project or list(ROOT.glob("LICEN[SC]E*"))
    assert stated or "licenses" not in (ROOT / "Dockerfile").read_text()


def test_what_the_secrets_script_makes_is_not_committed() -> None:
    """Nor by mistake."""
    answer = subprocess.run(("git", "check-ignore", "-q", "deploy/secrets/key_pepper"), cwd=ROOT, check=False)
    assert answer.returncode == 0


def test_the_builder_gets_only_what_it_reads() -> None:
    """The ignore file starts from nothing, so no secret and no data can slip in."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert not [rule for rule in rules if rule.startswith("!") and not (ROOT / rule[1:]).exists()]
