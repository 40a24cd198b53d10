"""`accord doctor`: each part is broken once, and the line with the command that repairs it is printed."""

import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Client

from cli.setup import ensure_namespace
from devstack.folder import StackFolder
from providers.simulation import Simulation
from tests.support.command import ROOT, Folder
from tests.support.stack import RunStack, Site

NOWHERE = "127.0.0.1:9"
Environment = dict[str, str]


@dataclass
class Clinic(Folder):
    """A whole installation, and a data folder that a test may spoil."""

    stack: RunStack
    site: Site
    here: Mapping[str, str]
    open: ExitStack = field(default_factory=ExitStack)

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Everything is where it should be, unless a test says otherwise."""
        return super().environment({**self.here, "ACCORD_DATA_DIR": str(self.data), **dict(extra or {})})

    def listens(self, port: int) -> None:
        """A stranger listens on this port until the test is over."""
        stranger = self.open.enter_context(socket.socket())
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", port))
        stranger.listen()


@pytest.fixture(scope="module")
async def whole(new_site: Callable[[], Awaitable[Site]]) -> AsyncIterator[tuple[Site, Environment]]:
    """An installation with a worker and an API, in which nothing is wrong."""
    site = await new_site()
    worker, api = site.start_worker(), site.start_api(ready="/readyz")
    yield (
        site,
        {
            **site.environment(),
            "TEMPORAL_ADDRESS": site.stack.temporal_address,
            "ACCORD_API_PORT": api.url.rsplit(":", 1)[1],
        },
    )
    api.stop()
    worker.stop()


@pytest.fixture
def clinic(stack: RunStack, whole: tuple[Site, Environment], tmp_path: Path) -> AsyncIterator[Clinic]:
    """The installation with a fresh data folder and fresh simulated providers."""
    site, here = whole
    clinic = Clinic(tmp_path, stack, site, {**here, "ACCORD_SIMULATED_STATE": str(tmp_path / "simulated.db")})
    clinic.remember_ports()
    shutil.copy(stack.root / "secrets.toml", clinic.data)
    with clinic.open:
        yield clinic


# --- what can go wrong: each breaks one part, and returns what has to be said differently in the environment ------


async def _stranger_among_the_rooms(clinic: Clinic) -> Environment:
    (clinic.path / "activities").mkdir()
    (clinic.path / "activities" / "__init__.py").touch()
    return {"PYTHONPATH": f"{clinic.path}:{ROOT}"}


async def _misspelled(_: Clinic) -> Environment:
    return {"ACCORD_DATABSE_URL": "x"}


async def _server_that_is_not_there(clinic: Clinic) -> Environment:
    StackFolder(clinic.data).write_run({"temporal_address": clinic.stack.temporal_address})
    return {"TEMPORAL_ADDRESS": "", "ACCORD_TEMPORAL_SERVER": "/nowhere/temporal-server"}


async def _dead_child(clinic: Clinic) -> Environment:
    folder = StackFolder(clinic.data)
    assert folder.try_lock()
    clinic.open.callback(folder.unlock)
    folder.write_run({"phase": "ready", "children": {"worker": {"pid": 2**22 + 1, "started": 1.0}}})
    return {}


async def _taken_port(clinic: Clinic) -> Environment:
    clinic.listens(StackFolder(clinic.data).read_marker()["ports"]["ui"])
    return {}


async def _secrets_for_everybody(clinic: Clinic) -> Environment:
    (clinic.data / "secrets.toml").chmod(0o644)
    return {}


async def _no_secrets(clinic: Clinic) -> Environment:
    (clinic.data / "secrets.toml").unlink()
    return {}


async def _no_database(_: Clinic) -> Environment:
    return {"ACCORD_DATABASE_URL": f"postgresql+psycopg://accord:x@{NOWHERE}/accord"}


async def _no_tables(clinic: Clinic) -> Environment:
    return {"ACCORD_DATABASE_URL": clinic.stack.new_database(migrated=False)}


async def _no_extension(clinic: Clinic) -> Environment:
    """A PostgreSQL without contrib modules: what it offers is read from a view, which is hidden by another one."""
    url = clinic.stack.new_database()
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            "CREATE VIEW public.pg_available_extensions AS"
            " SELECT * FROM pg_catalog.pg_available_extensions WHERE name <> 'btree_gin'"
        )
        connection.execute(
            "ALTER ROLE accord IN DATABASE {} SET search_path = public, pg_catalog".format(  # noqa: UP032
                connection.info.dbname
            )
        )
    return {"ACCORD_DATABASE_URL": url}


async def _no_temporal(_: Clinic) -> Environment:
    return {"TEMPORAL_ADDRESS": NOWHERE}


async def _no_namespace(_: Clinic) -> Environment:
    return {"TEMPORAL_NAMESPACE": "nowhere"}


async def _no_attributes(clinic: Clinic) -> Environment:
    client = await Client.connect(clinic.stack.temporal_address, namespace="bare")
    await ensure_namespace(client, "bare")
    return {"TEMPORAL_NAMESPACE": "bare"}


async def _wrong_attribute(clinic: Clinic) -> Environment:
    client = await Client.connect(clinic.stack.temporal_address, namespace="wrong")
    await ensure_namespace(client, "wrong")
    text = {"PromiseState": IndexedValueType.INDEXED_VALUE_TYPE_TEXT}
    await client.operator_service.add_search_attributes(
        AddSearchAttributesRequest(namespace="wrong", search_attributes=text)
    )
    return {"TEMPORAL_NAMESPACE": "wrong"}


async def _no_worker(clinic: Clinic) -> Environment:
    return {"TEMPORAL_NAMESPACE": (await clinic.stack.new_site()).namespace}


async def _carrier_away(clinic: Clinic) -> Environment:
    with Simulation(clinic.path / "simulated.db") as simulation:
        simulation.set_control("carriers.down", 1)
    return {}


async def _broken_simulation(clinic: Clinic) -> Environment:
    (clinic.path / "simulated.db").write_bytes(b"not a database" * 100)
    return {}


async def _unknown_adapter(_: Clinic) -> Environment:
    return {"ACCORD_CARRIER": "pigeon"}


async def _no_api(_: Clinic) -> Environment:
    return {"ACCORD_API_PORT": "9"}


Break = Callable[[Clinic], Awaitable[Environment]]
BREAKS: tuple[tuple[Break, str, str, str], ...] = (
    (_stranger_among_the_rooms, "FAIL", "another package is imported as activities", "alone in its own environment"),
    (_misspelled, "warn", "no setting is called ACCORD_DATABSE_URL", "config show"),
    (_server_that_is_not_there, "FAIL", "cannot be run", "unset ACCORD_TEMPORAL_SERVER"),
    (_dead_child, "FAIL", "worker does not run", "logs worker"),
    (_taken_port, "warn", "(ui) is held by ", "up takes the next free one"),
    (_secrets_for_everybody, "FAIL", "others can read", "chmod 600 "),
    (_no_secrets, "FAIL", "not set: ACCORD_KEY_PEPPER, ACCORD_VAULT_KEYS, ACCORD_CURSOR_KEYS", "up"),
    (_no_database, "FAIL", "database: ", "up"),
    (_no_tables, "FAIL", "revision none", "db upgrade"),
    (_no_extension, "warn", "does not offer btree_gin", "postgresql-contrib"),
    (_no_temporal, "FAIL", "temporal: ", "up"),
    (_no_namespace, "FAIL", "namespace nowhere does not exist", "init"),
    (_no_attributes, "FAIL", "search attributes missing: ", "init"),
    (_wrong_attribute, "FAIL", "PromiseState is Text, must be Keyword", "init --recreate PromiseState"),
    (_no_worker, "FAIL", 'no worker polls "orders"', "worker"),
    (_carrier_away, "FAIL", "carriers (simulated) do not answer", "orders wait and ask again"),
    (_broken_simulation, "FAIL", "the simulated providers' file cannot be used", "rm "),
    (_unknown_adapter, "FAIL", "no carriers adapter `pigeon`", "config show"),
    (_no_api, "FAIL", "the API does not answer", "logs api"),
)


def test_nothing_is_wrong_with_a_whole_installation(clinic: Clinic) -> None:
    """No problem; the only warning is that no stack of `up` runs in this folder."""
    code, report = clinic.accord_json("doctor")
    warnings = [finding["text"] for finding in report["findings"] if finding["verdict"] == "warn"]
    assert (code, report["problems"]) == (0, 0), report
    assert [text for text in warnings if "not as locked" not in text] == [f"no stack runs in {clinic.data}"]
    told = " ".join(finding["text"] for finding in report["findings"])
    assert "12 ports are free" in told
    assert "providers are simulated and have not been used yet" in told
    assert not (clinic.path / "simulated.db").exists()


@pytest.mark.parametrize(
    ("spoil", "verdict", "says", "fix"), BREAKS, ids=[row[0].__name__.strip("_") for row in BREAKS]
)
async def test_what_is_broken_is_named_with_its_fix(
    clinic: Clinic, spoil: Break, verdict: str, says: str, fix: str
) -> None:
    """One finding says what is wrong, and how to repair it; a failure is exit code 1."""
    environment = await spoil(clinic)
    code, report = clinic.accord_json("doctor", **environment)
    found = [finding for finding in report["findings"] if says in finding["text"]]
    assert len(found) == 1, report
    assert found[0]["verdict"] == verdict
    assert fix in found[0]["fix"]
    assert code == (1 if verdict == "FAIL" else 0), report
