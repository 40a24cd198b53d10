"""Renews the lock files after a change of pyproject.toml: ``python -m devstack.locks UV``, called by `make lock`.

``UV`` is the program that resolves for every platform at once. It is needed here only, never to install.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
OPTIONS = (
    *("--universal", "--python-version", "3.11", "--generate-hashes"),
    *("--no-emit-index-url", "--no-header", "--quiet"),
)


def main(uv: str) -> None:
    """Write all three lock files."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    backend = project["build-system"]["requires"]
    go = project["project"]["optional-dependencies"]["go"]
    _compile(uv, "requirements.lock", "pyproject.toml")
    # With the build backend, and what it needs for a checkout: nothing is fetched that is not locked.
    _compile(uv, "requirements-dev.lock", "pyproject.toml", "--group", "dev", "-", more=[*backend, "editables"])
    _compile(uv, "requirements-go.lock", "-", more=go)


def _compile(uv: str, lock: str, *sources: str, more: list[str] | None = None) -> None:
    command = (uv, "pip", "compile", *sources, *OPTIONS, "--output-file", lock)
    subprocess.run(command, cwd=CHECKOUT, check=True, input="\n".join(more or []), text=True)


if __name__ == "__main__":
    main(sys.argv[1])
