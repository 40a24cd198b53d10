"""The entry points of the containers, run natively within the same walls.

An unprivileged user, a working folder that cannot be written, secrets from files, few descriptors: what
`docker-compose.yml` asks for, where no container engine exists.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from devstack.ports import choose_ports, scattered_ports
from devstack.system_user import SystemUser, can_reach, can_read, postgres_user
from devstack.temporal import fetch_json, responds
from tests.support.command import ROOT, wait_until
from tests.support.stack import RunStack, Site

PYTHONS = (
    sys.executable,
    f"/usr/bin/python3.{sys.version_info.minor}",
    f"/usr/local/bin/python3.{sys.version_info.minor}",
)
LIMITED = 'ulimit -n 256; exec "$0" "$@"'


@dataclass
class Walls:
    """Where a confined process lives, and as whom."""

    user: SystemUser | None
    python: str
    working_folder: Path
    scratch: Path
    secrets: Path
    site: Site

    def environment(self, port: int) -> dict[str, str]:
        """What compose passes, and nothing of this test's own environment."""
        return {
            "PATH": "/usr/bin:/bin",
            "HOME": "/nonexistent",
            "TMPDIR": str(self.scratch),
            "PYTHONPATH": os.pathsep.join((str(ROOT), *(path for path in sys.path if path.endswith("site-packages")))),
            "PYTHONDONTWRITEBYTECODE": "1",
            "ACCORD_DATA_DIR": str(self.scratch),
            "ACCORD_SIMULATED_STATE": str(self.scratch / "simulated.db"),
            "ACCORD_WORKER_PROCESSES": "1",
            "ACCORD_WORKER_GRACE_S": "5",
            "ACCORD_API_PORT": str(port),
            **{f"ACCORD_{path.name.upper()}_FILE": str(path) for path in self.secrets.iterdir() if path.suffix == ""},
            "TEMPORAL_ADDRESS": self.site.stack.temporal_address,
            "TEMPORAL_NAMESPACE": self.site.namespace,
        }

    def start(self, *arguments: str, port: int) -> subprocess.Popen[bytes]:
        """Start one entry point within the walls."""
        identity = {"user": self.user.uid, "group": self.user.gid, "extra_groups": ()} if self.user else {}
        with (self.scratch.parent / f"{arguments[0]}.log").open("ab") as log:
            return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
                ("/bin/sh", "-c", LIMITED, self.python, "-m", "cli.main", *arguments),
                cwd=self.working_folder,
                env=self.environment(port),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **identity,
            )

    def log(self, name: str) -> str:
        """What an entry point has printed."""
        return (self.scratch.parent / f"{name}.log").read_text()


def _usable_python(user: SystemUser | None) -> str | None:
    """An interpreter of this version that the user can run: ours may be below a closed home folder."""
    for candidate in PYTHONS:
        if not Path(candidate).exists():
            continue
        identity = {"user": user.uid, "group": user.gid, "extra_groups": ()} if user else {}
        with contextlib.suppress(OSError):
            answer = subprocess.run(  # type: ignore[call-overload]
                (candidate, "-c", "import encodings, sqlite3"), cwd="/", check=False, capture_output=True, **identity
            )
            if answer.returncode == 0:
                return candidate
    return None


@pytest.fixture
async def walls(stack: RunStack) -> AsyncIterator[Walls]:
    """An installation of its own, and a place with nothing but a scratch folder to write to."""
    user = postgres_user()
    python = _usable_python(user)
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    if python is None or not can_read(user, ROOT / "settings.py") or not can_reach(user, Path(packages)):
        pytest.skip("the unprivileged user cannot reach this checkout, its packages or an interpreter")
    walls = _build(user, python, await stack.new_site())
    yield walls
    shutil.rmtree(walls.scratch.parent, ignore_errors=True)


def _build(user: SystemUser | None, python: str, site: Site) -> Walls:
    base = Path(tempfile.mkdtemp(prefix="accord-walls-"))
    base.chmod(0o711)
    folders = {name: base / name for name in ("working", "scratch", "secrets")}
    for folder in folders.values():
        folder.mkdir(mode=0o755)
    settings = site.settings()
    values = {"database_url": settings.dsn, "key_pepper": settings.pepper.decode()}
    for name in ("vault_keys", "cursor_keys"):
        values[name] = getattr(settings, name).get_secret_value()
    for name, value in values.items():
        (folders["secrets"] / name).write_text(value)
    api_keys = "\n".join(["[keys]", *(f'{role} = "{key}"' for role, key in site.keys.items())])
    (folders["secrets"] / "api_keys.toml").write_text(api_keys)
    if user:
        os.chown(folders["scratch"], user.uid, user.gid)
    folders["working"].chmod(0o555)
    return Walls(user, python, folders["working"], folders["scratch"], folders["secrets"], site)


async def test_init_worker_and_api_live_within_the_walls(walls: Walls) -> None:
    """Set up, ready, stopped in order; nothing written but the simulated providers' file."""
    port = choose_ports({"api": scattered_ports()["api"]})["api"]
    init = walls.start("init", "--keys", str(walls.secrets / "api_keys.toml"), port=port)
    assert init.wait(60) == 0, walls.log("init")
    worker = walls.start("worker", port=port)
    api = walls.start("api", port=port)
    try:
        if walls.user:
            assert os.stat(f"/proc/{api.pid}").st_uid == walls.user.uid  # noqa: PTH116 - a process, not a file
        wait_until(lambda: responds(f"http://127.0.0.1:{port}/readyz") or api.poll() is not None, 60)
        assert api.poll() is None, walls.log("api")
        assert fetch_json(f"http://127.0.0.1:{port}/version"), walls.log("api")
    finally:
        for process in (api, worker):
            process.send_signal(signal.SIGTERM)
        codes = (api.wait(30), worker.wait(30))
    # uvicorn drains, then ends by the very signal that it was sent.
    assert codes == (-signal.SIGTERM, 0), walls.log("worker") + walls.log("api")
    assert list(walls.working_folder.iterdir()) == []
    assert {path.name.split("-")[0] for path in walls.scratch.iterdir()} <= {"simulated.db"}
