"""Every setting of Accord, read once by the composition roots into one frozen object.

Owned by operations. Our settings carry the prefix ``ACCORD_``; those of Temporal are the SDK's own
(``temporalio.envconfig``), so that one profile serves every Temporal tool. A value comes from, first hit
wins: the environment, a file named by ``ACCORD_X_FILE`` (secrets only), the running stack of this folder
(development only), the default.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import sys
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

if TYPE_CHECKING:
    from temporalio.envconfig import ClientConnectConfig

PREFIX = "ACCORD_"
RUN_FILE = "run.json"
SECRETS_FILE = "secrets.toml"
VAULT_KEY_BYTES = 32
SECRETS = ("database_url", "key_pepper", "vault_keys", "cursor_keys")
OPTIONAL_SECRETS = ("smtp_password",)
PROVIDERS = ("payment", "carrier", "warehouse", "notify")


class SettingsError(Exception):
    """The process cannot start with the settings it was given."""


class InvalidSettings(SettingsError):
    """A setting has a value that cannot be used; the text names the setting, never the value."""


class UnsafeSettings(SettingsError):
    """Production was asked for with settings that are safe on a laptop only."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("Production refuses to start:\n" + "\n".join(f" - {problem}" for problem in problems))


class Environment(StrEnum):
    """Where this installation runs."""

    DEVELOPMENT = "development"  # a laptop, tests, CI: simulated providers, generated secrets
    PRODUCTION = "production"  # every unsafe default turns into a refusal to start


class DirectCommands(StrEnum):
    """What happens to a command that was born in Temporal's own UI, without a command row of ours."""

    ALLOW = "allow"  # development: everything works from the UI
    LIMITED = "limited"  # production: only what moves neither money nor goods
    REFUSE = "refuse"  # nothing


def _default_direct_commands(data: dict[str, Any]) -> DirectCommands:
    return DirectCommands.LIMITED if data.get("env") is Environment.PRODUCTION else DirectCommands.ALLOW


def _default_simulated_state(data: dict[str, Any]) -> Path:
    return Path(data.get("data_dir", Path(".accord").absolute())) / "simulated.db"


def _default_sandbox(data: dict[str, Any]) -> bool:
    return data.get("env") is not Environment.PRODUCTION


def _cores() -> int:
    return os.cpu_count() or 1


AbsolutePath = Annotated[Path, AfterValidator(Path.absolute)]
Count = Annotated[int, Field(gt=0)]
Port = Annotated[int, Field(gt=0, lt=65536)]


class Settings(BaseSettings):
    """All settings that exist. Secrets are typed so that they print masked."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,
        validate_default=True,
    )

    env: Environment = Environment.DEVELOPMENT

    database_url: SecretStr | None = None
    db_pool_size: Count = 10
    db_statement_timeout_ms: Count = 5000
    db_lock_timeout_ms: Count = 1000

    data_dir: AbsolutePath = Path(".accord")
    temporal_server: AbsolutePath | None = None

    api_host: str = "127.0.0.1"
    api_port: Port = 8000
    oidc_issuer: str | None = None
    oidc_audience: str | None = None
    oidc_jwks_url: str | None = None
    wait_default_s: Annotated[float, Field(ge=0)] = 3
    wait_max_s: Annotated[float, Field(gt=0)] = 20
    idempotency_days: Count = 7
    direct_commands: DirectCommands = Field(default_factory=_default_direct_commands)

    key_pepper: SecretStr | None = None
    vault_keys: SecretStr | None = None
    cursor_keys: SecretStr | None = None

    payment: str = "simulated"
    carrier: str = "simulated"
    warehouse: str = "simulated"
    notify: str = "simulated"
    smtp_host: str | None = None
    smtp_port: Port | None = None
    smtp_tls: Literal["starttls", "tls", "none"] = "starttls"
    smtp_authorities: AbsolutePath | None = None
    smtp_user: str | None = None
    smtp_password: SecretStr | None = None
    smtp_sender: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")] | None = None
    smtp_sender_name: str = ""
    notice_templates: AbsolutePath | None = None
    simulated_state: AbsolutePath = Field(default_factory=_default_simulated_state)
    simulated_seed: int = 0
    simulated_faults: str = ""

    worker_processes: Count = Field(default_factory=_cores)
    worker_sandbox: bool = Field(default_factory=_default_sandbox)
    worker_workflow_slots: Count = 16
    worker_activity_slots: Count = 10
    worker_cache: Annotated[int, Field(ge=0)] = 10_000
    worker_grace_s: Annotated[float, Field(ge=0)] = 30

    log_format: Literal["auto", "pretty", "json"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, environment, files named by the environment, the stack of this folder."""
        return (init_settings, env_settings, _SecretFiles(settings_cls), _RunningStack(settings_cls))

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.wait_default_s > self.wait_max_s:
            raise ValueError("wait_default_s must not be above wait_max_s")
        for name in ("vault_keys", "cursor_keys"):
            _key_ring(name, getattr(self, name))
        if self.notify == "smtp" and not (self.smtp_host and self.smtp_sender):
            raise ValueError("notify is smtp: set smtp_host and smtp_sender too")
        if (self.smtp_user is None) != (self.smtp_password is None):
            raise ValueError("smtp_user and smtp_password belong together")
        return self

    @property
    def dsn(self) -> str:
        """Address of our database, for psycopg through SQLAlchemy.

        Raises:
            InvalidSettings: none is set and no stack runs in this folder.
        """
        if self.database_url is None:
            raise InvalidSettings("No database: set ACCORD_DATABASE_URL, or start a stack here with `accord up`.")
        return self.database_url.get_secret_value()

    @property
    def pepper(self) -> bytes:
        """Secret that is mixed into the stored digest of every API key."""
        if self.key_pepper is None:
            raise InvalidSettings("No pepper: set ACCORD_KEY_PEPPER, or start a stack here with `accord up`.")
        return self.key_pepper.get_secret_value().encode()

    @property
    def vault_key_ring(self) -> tuple[tuple[int, bytes], ...]:
        """Keys of the customer vault as (version, 32 bytes); the first one seals, all of them open."""
        return _key_ring("vault_keys", self.vault_keys)

    @property
    def cursor_key_ring(self) -> tuple[tuple[int, bytes], ...]:
        """Keys that sign cursors as (version, 32 bytes); the first one signs, all of them verify."""
        return _key_ring("cursor_keys", self.cursor_keys)


class _SecretFiles(PydanticBaseSettingsSource):
    """Secrets from files: ``ACCORD_KEY_PEPPER_FILE`` names the file that holds the pepper."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Content of the named file without its last line break, or nothing."""
        variable = f"{PREFIX}{field_name}_FILE".upper()
        path = os.environ.get(variable)
        if field_name not in SECRETS + OPTIONAL_SECRETS or not path:
            return None, field_name, False
        if os.environ.get(f"{PREFIX}{field_name}".upper()):
            raise InvalidSettings(f"{variable} and the variable without _FILE are both set: keep one.")
        try:
            return Path(path).read_text().strip(), field_name, False
        except OSError as problem:
            raise InvalidSettings(f"{variable} cannot be read: {problem.strerror} ({path})") from problem

    def __call__(self) -> dict[str, Any]:
        """All values that this source has."""
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}


class _RunningStack(PydanticBaseSettingsSource):
    """What `accord up` wrote into the data folder: secrets, and where database and API listen."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Required by the base class; all values are read together."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Generated secrets and run-time addresses, never in production."""
        if self.current_state.get("env", "development") != Environment.DEVELOPMENT:
            return {}
        folder = Path(self.current_state.get("data_dir", ".accord"))
        run = read_run_file(folder)
        values = {name: run[name] for name in ("database_url", "api_host", "api_port") if name in run}
        return values | _generated_secrets(folder)


def read_run_file(folder: Path) -> dict[str, Any]:
    """What the stack in `folder` says about itself; empty when none runs or the file is half written."""
    try:
        content = json.loads((folder / RUN_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _generated_secrets(folder: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads((folder / SECRETS_FILE).read_text())
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError) as problem:
        raise InvalidSettings(f"{folder / SECRETS_FILE} cannot be read: {problem}") from problem
    generated = content.get("settings", {})
    return {name: generated[name] for name in SECRETS if name in generated}


def _key_ring(name: str, text: SecretStr | None) -> tuple[tuple[int, bytes], ...]:
    """Parse ``2:BASE64,1:BASE64``: versioned keys of 32 bytes, the one in use first."""
    if text is None:
        return ()
    ring: list[tuple[int, bytes]] = []
    for entry in text.get_secret_value().split(","):
        version, _, key = entry.strip().partition(":")
        try:
            ring.append((int(version), base64.b64decode(key, altchars=b"-_", validate=True)))
        except (ValueError, binascii.Error):
            raise ValueError(f"{name} must look like 2:BASE64,1:BASE64") from None
        if len(ring[-1][1]) != VAULT_KEY_BYTES:
            raise ValueError(f"{name}: key {version} must have {VAULT_KEY_BYTES} bytes")
    if len({version for version, _ in ring}) != len(ring):
        raise ValueError(f"{name}: two keys have the same version")
    return tuple(ring)


def load_settings(**overrides: object) -> Settings:
    """Read all settings once.

    Args:
        **overrides: settings that win over every other source (options of a command).

    Raises:
        InvalidSettings: a value cannot be used.
        UnsafeSettings: production was asked for with something that is for laptops only.
    """
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as problem:
        raise InvalidSettings(_describe(problem)) from None
    if settings.env is Environment.PRODUCTION:
        refuse_unsafe(settings)
    return settings


def refuse_unsafe(settings: Settings) -> None:
    """Refuse to go on in production while a secret is missing or a provider is simulated.

    Raises:
        UnsafeSettings: names every problem at once, so that one start is enough to see them all.
    """
    missing = [
        f"{PREFIX}{name.upper()} (or {PREFIX}{name.upper()}_FILE) is not set"
        for name in SECRETS
        if getattr(settings, name) is None
    ]
    simulated = [
        f"{PREFIX}{name.upper()} is `simulated`: nothing real would happen"
        for name in PROVIDERS
        if getattr(settings, name) == "simulated"
    ]
    open_door = ["ACCORD_DIRECT_COMMANDS is `allow`: choose `limited` or `refuse`"]
    in_the_clear = ["ACCORD_SMTP_TLS is `none`: the password would be sent in the clear"]
    problems = [
        *missing,
        *simulated,
        *(open_door if settings.direct_commands is DirectCommands.ALLOW else []),
        *(in_the_clear if settings.smtp_tls == "none" and settings.smtp_password else []),
    ]
    if problems:
        raise UnsafeSettings(tuple(problems))


def load_temporal(settings: Settings) -> ClientConnectConfig:
    """Arguments for ``Client.connect``: Temporal's own variables and profile, else the stack of this folder.

    Defaults to 127.0.0.1:7233 and the namespace `default`.
    """
    from temporalio.envconfig import ClientConfig, ClientConnectConfig

    found = ClientConfig.load_client_connect_config()
    if "target_host" in found:
        return found
    run = read_run_file(settings.data_dir) if settings.env is Environment.DEVELOPMENT else {}
    fallback = ClientConnectConfig(target_host=str(run.get("temporal_address", "127.0.0.1:7233")))
    return ClientConnectConfig(**{**fallback, **found})


def point_at_stack(settings: Settings) -> None:
    """Let every Temporal client of this process find the stack of this folder, unless a server is named."""
    if not names_temporal():
        os.environ["TEMPORAL_ADDRESS"] = str(load_temporal(settings)["target_host"])


def names_temporal() -> bool:
    """True when the environment or a profile names a Temporal server: then none of ours is started."""
    from temporalio.envconfig import ClientConfig

    return "target_host" in ClientConfig.load_client_connect_config()


def configure_logging(log_format: str, level: str) -> None:
    """Let this process log events with fields: pretty on a terminal, JSON elsewhere."""
    import structlog

    pretty = log_format == "pretty" or (log_format == "auto" and sys.stderr.isatty())
    # A traceback without the values of variables: they may be a customer's.
    rendering: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if pretty
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    logging.basicConfig(level=level.upper(), format="%(message)s")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", key="ts"),
            *rendering,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _describe(problem: ValidationError) -> str:
    lines = [
        f" - {PREFIX}{'.'.join(map(str, error['loc'])).upper()}: {error['msg']}"
        if error["loc"]
        else f" - {error['msg']}"
        for error in problem.errors(include_url=False, include_input=False)
        if error["type"] != "default_factory_not_called"  # only says that another setting is wrong
    ]
    return "Settings cannot be used:\n" + "\n".join(lines)
