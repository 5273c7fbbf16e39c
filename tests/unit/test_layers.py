"""Dependencies point one way: schema, then pure decisions, then stores, then all that acts."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import firestate

PACKAGE = Path(firestate.__file__).parent

# Each part, with the parts of ours that it may import. Everybody's: see EVERYBODYS.
# `stores.protocol` is what decisions are written in: plain data, no store.
ARROWS = {
    "schema": set(),
    "counters": {"schema"},
    "ingest": {"schema", "counters", "stores.protocol"},
    "derive": {"schema", "counters"},
    "stores.protocol": set(),
    "queries": {"schema", "stores.protocol"},
    "stores": {"schema", "stores.protocol", "queries"},
    "pipeline": {"schema", "counters", "ingest", "derive", "queries", "stores", "stores.protocol"},
    "client": {"schema"},
    "outbox": set(),
    "agents": {
        "schema",
        "counters",
        "queries",
        "stores",
        "stores.protocol",
        "client",
        "outbox",
        "local",
    },
    "adapters": {"schema", "agents"},
    "replay": {"schema", "client", "ingest", "pipeline", "stores.protocol"},
    "migration": {
        "schema",
        "counters",
        "ingest",
        "queries",
        "stores",
        "stores.protocol",
        "pipeline",
        "replay",
    },
    "people": {"schema"},
    "demo": {"schema", "client"},
    "audit": {
        "schema",
        "counters",
        "ingest",
        "derive",
        "queries",
        "stores.protocol",
        "pipeline",
        "client",
    },
    "local": {"schema", "ingest", "stores", "pipeline", "client"},
    "cli": {
        "schema",
        "queries",
        "stores",
        "stores.protocol",
        "pipeline",
        "audit",
        "client",
        "replay",
        "demo",
        "local",
        "people",
        "outbox",
        "migration",
    },
    "__main__": {"cli"},
}
EVERYBODYS = {"limits", "errors", "forking", "version"}
# Also pure: nothing of Google, nothing that waits, reads or prints.
PURE = ("schema", "counters", "ingest", "derive", "queries", "stores.protocol")
MOST_LINES = 250
IMPURE = {"google", "grpc", "time", "os", "random", "threading", "socket", "rich", "typer"}


def part_of(module: str) -> str:
    """Give the part that a module of ours belongs to."""
    if module.startswith("stores.protocol"):
        return "stores.protocol"
    return module.partition(".")[0]


def imported(path: Path) -> set[str]:
    """Give the names of all modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py" or path.parent.name == "cli"
}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_arrows(module: str) -> None:
    """A module imports only what its part may stand on."""
    own = part_of(module)
    allowed = {own} | EVERYBODYS | ARROWS.get(own, set())
    ours = {
        name.removeprefix("firestate.")
        for name in imported(MODULES[module])
        if name.startswith("firestate.")
    }
    known = {name for name in ours if name in MODULES or part_of(name) in ARROWS}
    assert {part_of(name) for name in known} <= allowed
    if own in PURE:
        assert not {name.partition(".")[0] for name in imported(MODULES[module])} & IMPURE


def test_the_recount_shares_nothing_with_the_counting() -> None:
    """The audit's own counting imports nothing of what it checks."""
    for module in ("recount", "recount_tasks", "recount_agent", "recount_system"):
        ours = {
            n for n in imported(PACKAGE / "audit" / f"{module}.py") if n.startswith("firestate")
        }
        assert all(name.startswith("firestate.audit.recount") for name in ours), module


def test_each_framework_is_its_adapters_own() -> None:
    """Who uses one framework needs no other, and the rest of Firestate none."""
    frameworks = {"agents", "langgraph", "langchain_core", "google.adk", "opentelemetry"}
    found = {
        (module, framework)
        for module, path in MODULES.items()
        for framework in frameworks
        for name in imported(path)
        if name == framework or name.startswith(f"{framework}.")
    }
    assert found == {
        ("adapters.openai_agents", "agents"),
        ("adapters.langgraph", "langgraph"),
        ("adapters.langgraph", "langchain_core"),
        ("adapters.adk", "google.adk"),
        ("adapters.opentelemetry", "opentelemetry"),
    }


def test_modules_are_small() -> None:
    """One purpose each, at most 250 lines."""
    long = {
        name: n for name, path in MODULES.items() if (n := len(path.read_text().splitlines())) > 250
    }
    assert long == {}
