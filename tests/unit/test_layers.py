"""Dependencies point one way: schema, then pure decisions, then stores, then all that acts."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import firestate

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGE = Path(firestate.__file__).parent

EVERYBODYS = {
    "limits",
    "errors",
    "extras",
    "forking",
    "fork_safe_sqlite",
    "moved_modules",
    "version",
    "worker",
}
# Each room, the lowest first, with the rooms that it may import. A room is a package or a module;
# of a module's path the longest that is listed here is its room. `stores.protocol` is what
# decisions are written in: plain data, no store.
ROOMS: dict[str, set[str]] = {
    "clock": set(),
    "google_errors": set(),
    "schema": set(),
    "counters": {"schema"},
    "derive": {"schema", "counters"},
    "stores.protocol": set(),
    "ingest": {"schema", "counters", "stores.protocol"},
    "queries": {"schema", "stores.protocol"},
    "lookup": {"queries", "stores.protocol"},
    "stored_states": {"schema", "stores.protocol"},
    "stores": {"google_errors", "schema", "stores.protocol"},
    "pipeline": {
        "schema",
        "counters",
        "ingest",
        "derive",
        "queries",
        "stored_states",
        "stores",
        "stores.protocol",
    },
    "client": {"google_errors", "schema"},
    "operations": {
        "schema",
        "stored_states",
        "counters",
        "ingest",
        "derive",
        "queries",
        "stores.protocol",
        "pipeline",
        "client",
    },
    "local": {
        "clock",
        "schema",
        "ingest",
        "queries",
        "stores",
        "stores.protocol",
        "pipeline",
        "client",
    },
    "outbox": {"schema"},
    "agents.state": {"clock", "schema", "counters"},
    "agents.backends": {
        "agents.state",
        "clock",
        "google_errors",
        "schema",
        "stored_states",
        "client",
        "local",
        "outbox",
        "stores",
        "stores.protocol",
    },
    "agents.reading": {
        "schema",
        "stored_states",
        "counters",
        "queries",
        "lookup",
        "stores",
        "stores.protocol",
        "outbox",
        "agents.state",
        "agents.backends",
    },
    "agents": {
        "schema",
        "stored_states",
        "counters",
        "queries",
        "lookup",
        "stores.protocol",
        "outbox",
        "agents.state",
        "agents.backends",
        "agents.reading",
    },
    "adapters": {"schema", "agents", "agents.state"},
    "replay": {"schema", "client"},
    "migration.formats": {"schema", "replay"},
    "migration.sources": {
        "google_errors",
        "schema",
        "queries",
        "stores",
        "stores.protocol",
        "migration.formats",
    },
    "migration.workdir": set(),
    "migration.plan": {"schema", "counters", "migration.formats", "migration.sources"},
    "migration.apply": {
        "schema",
        "stored_states",
        "ingest",
        "queries",
        "stores.protocol",
        "pipeline",
        "operations",
        "migration.formats",
        "migration.sources",
        "migration.workdir",
        "migration.plan",
    },
    "migration.verify": {
        "schema",
        "counters",
        "ingest",
        "stores.protocol",
        "pipeline",
        "operations",
        "migration.formats",
        "migration.sources",
        "migration.workdir",
        "migration.plan",
        "migration.apply",
    },
    "migration": {
        "stores",
        "migration.formats",
        "migration.sources",
        "migration.workdir",
        "migration.plan",
        "migration.apply",
        "migration.verify",
    },
    "auth": {"google_errors", "schema"},
    "demo": {"schema", "client"},
    "audit": {
        "schema",
        "stored_states",
        "counters",
        "ingest",
        "derive",
        "queries",
        "stores.protocol",
        "pipeline",
        "operations",
        "client",
    },
    "cli": {
        "google_errors",
        "schema",
        "queries",
        "lookup",
        "stores",
        "stores.protocol",
        "pipeline",
        "operations",
        "audit",
        "client",
        "replay",
        "demo",
        "local",
        "auth",
        "outbox",
        "migration",
        "migration.sources",
        "migration.workdir",
        "migration.plan",
        "migration.apply",
        "migration.verify",
    },
    "__main__": {"cli"},
}
# Pure ones: nothing of Google, nothing that waits, reads or prints.
PURE = {"schema", "counters", "ingest", "derive", "queries", "stores.protocol"}
IMPURE = {"google", "grpc", "time", "os", "random", "threading", "socket", "rich", "typer"}


def module_name(path: Path) -> str:
    """Return a module's name below `firestate`; a package is named like its folder."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {
    name: path.read_text()
    for path in sorted(PACKAGE.rglob("*.py"))
    if (name := module_name(path))  # the package itself names all that it lends to users
}


def room_of(module: str) -> str:
    """Return the room of a module: of the listed names that it is below, the longest."""
    rooms = [r for r in {*ROOMS, *EVERYBODYS} if f"{module}.".startswith(f"{r}.")]
    return max(rooms, key=len, default=module)


def imported(source: str) -> set[str]:
    """Return all names that a module imports, wherever in it: also lazily, also for types alone."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "an import says where from, from the top"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours_in(source: str, sources: Mapping[str, str]) -> set[str]:
    """Return the modules of ours that a module imports."""
    found = set()
    for name in imported(source):
        below = name.removeprefix("firestate.")
        if below != name:
            # `a.b.c` is the module a.b.c, or something in the module a.b.
            found |= {below} if below in sources else {below.rpartition(".")[0]} & sources.keys()
    return found


def arrows_up(sources: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return each import that its room does not allow."""
    found = []
    for module, source in sources.items():
        room = room_of(module)
        allowed = {room, *EVERYBODYS, *ROOMS.get(room, set())}
        found += [(module, o) for o in ours_in(source, sources) if room_of(o) not in allowed]
    return found


def circle(sources: Mapping[str, str]) -> list[str]:
    """Return the modules of a circle of imports, if there is one."""
    sorter = TopologicalSorter({m: ours_in(s, sources) - {m} for m, s in sources.items()})
    try:
        sorter.prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def impure(sources: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return each import by a pure module of something that is not."""
    return [
        (module, name)
        for module, source in sources.items()
        if room_of(module) in PURE
        for name in {each.partition(".")[0] for each in imported(source)} & IMPURE
    ]


def test_rooms_stand_on_lower_ones() -> None:
    """The list itself has no arrow up: a room allows only rooms that come before it."""
    before: set[str] = set()
    for room, allowed in ROOMS.items():
        assert allowed <= before, room
        before.add(room)


def test_every_module_has_a_room() -> None:
    """A new package is listed before anything is in it."""
    packages = {"agents", "migration"}  # rooms themselves, with rooms in them
    assert {m for m in SOURCES if room_of(m) not in {*ROOMS, *EVERYBODYS}} - packages == set()


def test_no_arrow_up() -> None:
    """A module imports only what its room may stand on."""
    assert arrows_up(SOURCES) == []


def test_no_circle() -> None:
    """No module imports, by way of others, itself."""
    assert circle(SOURCES) == []


def test_pure_rooms_are_pure() -> None:
    """Decisions read no clock, no environment and no network."""
    assert impure(SOURCES) == []


@pytest.mark.parametrize(
    "source",
    [
        "from firestate.stores.sqlite import SqliteStore",
        "import firestate.stores.sqlite",
        "from firestate.stores import sqlite",
        "if TYPE_CHECKING:\n    from firestate.stores.sqlite import SqliteStore",
        "def late() -> None:\n    from firestate.stores import sqlite",
    ],
)
def test_a_planted_arrow_up_is_found(source: str) -> None:
    """Types alone and late imports are arrows like any other."""
    planted = SOURCES | {"counters.planted": source}
    assert arrows_up(planted) == [("counters.planted", "stores.sqlite")]


@pytest.mark.parametrize("indent", ["", "if TYPE_CHECKING:\n    ", "def late() -> None:\n    "])
def test_a_planted_circle_is_found(indent: str) -> None:
    """Two modules of one room that import each other are a circle."""
    planted = SOURCES | {
        "counters.one": "from firestate.counters.other import thing",
        "counters.other": f"{indent}from firestate.counters.one import thing",
    }
    assert arrows_up(planted) == []
    assert set(circle(planted)) == {"counters.one", "counters.other"}


def test_a_planted_clock_is_found() -> None:
    """A pure module that reads the clock is none."""
    assert impure(SOURCES | {"derive.planted": "import time"}) == [("derive.planted", "time")]


def test_the_recount_shares_nothing_with_the_counting() -> None:
    """The audit's own counting imports nothing of what it checks."""
    for module in ("recount", "recount_tasks", "recount_agent", "recount_system"):
        ours = {n for n in imported(SOURCES[f"audit.{module}"]) if n.startswith("firestate")}
        assert all(name.startswith("firestate.audit.recount") for name in ours), module


def test_each_framework_is_its_adapters_own() -> None:
    """Who uses one framework needs no other, and the rest of Firestate none."""
    frameworks = {"agents", "langgraph", "langchain_core", "google.adk", "opentelemetry"}
    found = {
        (module, framework)
        for module, source in SOURCES.items()
        for framework in frameworks
        for name in imported(source)
        if name == framework or name.startswith(f"{framework}.")
    }
    assert found == {
        ("adapters.openai_agents", "agents"),
        ("adapters.langgraph", "langgraph"),
        ("adapters.langgraph", "langchain_core"),
        ("adapters.adk", "google.adk"),
        ("adapters.opentelemetry", "opentelemetry"),
    }
