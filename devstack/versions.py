"""Versions of the Go programs that the stack runs, and where their source is."""

from __future__ import annotations

from dataclasses import dataclass

TEMPORAL_VERSION = "1.32.0"
UI_VERSION = "2.54.1"
OLDEST_GO = (1, 26, 4)  # what the Temporal server of this version asks for


@dataclass(frozen=True)
class GoProgram:
    """One program that `go install` builds.

    Attributes:
        package: import path of its main package.
        packages: how many packages the build compiles, roughly; for the progress bar only.
    """

    name: str
    version: str
    package: str
    packages: int

    @property
    def file_name(self) -> str:
        """Name in the cache: the version is part of it, so versions live side by side."""
        return f"{self.name}-{self.version}"


SERVER = GoProgram("temporal-server", TEMPORAL_VERSION, "go.temporal.io/server/cmd/server", 1750)
SQL_TOOL = GoProgram("temporal-sql-tool", TEMPORAL_VERSION, "go.temporal.io/server/cmd/tools/sql", 300)
UI = GoProgram("temporal-ui", UI_VERSION, "github.com/temporalio/ui-server/v2/cmd/server", 430)
PROGRAMS = (SERVER, SQL_TOOL, UI)
