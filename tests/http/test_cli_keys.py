"""`accord keys`: an installation of one's own lets nobody in at first, and the right ones when keys are made."""

import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from tests.support.command import ROOT, Folder
from tests.support.stack import RunStack, Site

DONE, FAILED, USAGE, REFUSED = range(4)
SHOP = ("--name", "shop", "--role", "storefront", "--channel", "web-us")


@dataclass
class Desk(Folder):
    """A folder whose commands speak to one installation, and know none of its keys."""

    here: Mapping[str, str] = field(default_factory=dict)

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of that person."""
        return super().environment({**self.here, **dict(extra or {})})

    def may_list(self, key: str) -> bool:
        """Whether the API lets this key list orders."""
        done = self.accord("orders", "list", ACCORD_API_KEY=key)
        assert done.returncode in (DONE, REFUSED), done.stderr
        return done.returncode == DONE


@pytest.fixture(scope="module")
async def desk(
    new_site: Callable[[], Awaitable[Site]], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Desk]:
    """An API on an installation, and somebody who may reach its database."""
    site, path = await new_site(), tmp_path_factory.mktemp("keys")
    api = site.start_api()
    here = {
        "ACCORD_DATA_DIR": str(path),
        "ACCORD_API_URL": api.url,
        "ACCORD_KEY_PEPPER": site.settings().pepper.decode(),
    }
    yield Desk(path, {**site.environment(), **here})
    api.stop()


def test_a_key_works_until_it_is_revoked(desk: Desk) -> None:
    """Printed once, listed without its secret, useless afterwards."""
    # given
    code, made = desk.accord_json("keys", "create", *SHOP, "--days", "30")
    assert (code, made["roles"], made["channels"], made["nodes"]) == (DONE, ["storefront"], ["web-us"], [])
    other = desk.accord("keys", "create", "--name", "node AVP3", "--role", "warehouse", "--node", "AVP3")
    assert other.returncode == DONE
    # then
    assert desk.may_list(made["key"])
    assert not desk.may_list(other.stdout.strip())  # a warehouse lists no orders, but it is known
    assert desk.accord("demo", "floor", "--until-idle", ACCORD_API_KEY=other.stdout.strip()).returncode == DONE
    listed = desk.accord("keys", "list")
    assert f"{made['id']}  valid    shop " in listed.stdout
    assert made["key"].rsplit("_", 1)[1] not in listed.stdout + listed.stderr
    # and when
    code, unused = desk.accord_json("keys", "create", *SHOP)
    assert desk.accord_json("keys", "revoke", unused["id"]) == (DONE, {"id": unused["id"], "state": "revoked"})
    # then
    assert not desk.may_list(unused["key"])
    code, found = desk.accord_json("keys", "list")
    states = {key["id"]: (key["name"], key["state"]) for key in found["data"]}
    assert (states[made["id"]], states[unused["id"]]) == (("shop", "valid"), ("shop", "revoked"))
    code, refused = desk.accord_json("keys", "revoke", unused["id"])
    assert (code, refused["exit_code"]) == (FAILED, FAILED)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--role", "storefront"), "--channel"),
        (("--role", "warehouse", "--channel", "web-us"), "--node"),
        (("--role", "service", "--role", "ops"), "--channel"),
        (("--role", "shopper"), "sign in"),
        (("--role", "king"), "king"),
        (("--channel", "web-us"), "--role"),
    ],
)
def test_a_key_that_could_do_nothing_is_not_made(desk: Desk, arguments: tuple[str, ...], says: str) -> None:
    """Exit code 2, the missing part by name, nothing stored."""
    before = desk.accord_json("keys", "list")
    code, refused = desk.accord_json("keys", "create", "--name", "x", *arguments)
    assert (code, refused["exit_code"]) == (USAGE, USAGE)
    assert says in refused["detail"]
    assert desk.accord_json("keys", "list") == before


def test_a_database_without_tables_says_what_to_do(desk: Desk, stack: RunStack) -> None:
    """Exit code 1 and the command that makes them; no statement with its values."""
    done = desk.accord("keys", "create", *SHOP, ACCORD_DATABASE_URL=stack.new_database(migrated=False))
    assert done.returncode == FAILED
    assert "init" in done.stderr
    assert "INSERT" not in done.stderr


def test_engines_of_ones_own_from_nothing_to_the_first_order(stack: RunStack, tmp_path: Path) -> None:
    """As the README says: secrets from files, `init`, demo data, a key, worker and API; then an order is placed."""
    # given
    deploy = tmp_path / "deploy"
    deploy.mkdir()
    (deploy / "secrets.sh").write_bytes((ROOT / "deploy" / "secrets.sh").read_bytes())
    subprocess.run(("sh", str(deploy / "secrets.sh")), check=True, capture_output=True)
    url = stack.new_database(migrated=False)
    site = Site(stack, "own-engines", "own-engines", url, tmp_path / "simulated.db", keys={})
    ours = {"ACCORD_DATA_DIR": str(tmp_path), "TEMPORAL_ADDRESS": stack.temporal_address}
    for name in ("key_pepper", "vault_keys", "cursor_keys"):
        ours[f"ACCORD_{name.upper()}_FILE"] = str(deploy / "secrets" / name)
    desk = Desk(tmp_path, {**site.environment(), **ours})
    # when
    assert desk.accord("init").returncode == DONE
    assert desk.accord("demo", "seed").returncode == DONE
    key = desk.accord("keys", "create", *SHOP).stdout.strip()
    worker, api = site.start_worker(**ours), site.start_api(ready="/healthz", **ours)
    # then
    try:
        order = ("orders", "create", "--sku", "LAMP-OAK:2", "--city", "Boston", "--wait", "20", "--api-url", api.url)
        done = desk.accord(*order, "--json", ACCORD_API_KEY=key)
        assert done.returncode == DONE, done.stderr
        assert json.loads(done.stdout)["status"] in ("confirmed", "in_fulfillment")
        unknown = f"acc_dev_{'0' * 12}_{'0' * 64}"
        assert desk.accord(*order, ACCORD_API_KEY=unknown).returncode == REFUSED
    finally:
        api.stop()
        worker.stop()
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT count(*) FROM api_keys").fetchone() == (1,)
