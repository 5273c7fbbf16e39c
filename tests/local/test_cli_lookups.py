"""What `firestate agents`, `events` and `memory` can be asked for, in any combination."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from firestate.client.outgoing import outgoing
from firestate.local.engine import LocalEngine
from tests.harness import event_message, state_message, tombstone_message

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Run

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
AGENTS = {
    "--status": ("status", ["busy", "idle"]),
    "--type": ("agent_type", ["QA", "Developer"]),
    "--session": ("session_id", ["s1", "s2"]),
    "--parent": ("parent_agent_id", ["p1", "p2"]),
}
EVENTS: dict[str, tuple[str, list[Any]]] = {
    "--type": ("event_type", ["handoff", "error"]),
    "--source": ("source_agent_id", ["a", "b"]),
    "--failed": ("success", [False]),
    "--succeeded": ("success", [True]),
    "--between": ("types", [("QA", "QA"), ("QA", "Developer")]),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with agents and events of every combination, and some that were deleted."""
    file = tmp_path_factory.mktemp("look-ups") / "state.db"
    with LocalEngine(file, clock=lambda: NEW_YEAR + timedelta(minutes=1)) as engine:
        choices = itertools.product(*(values for _, values in AGENTS.values()), range(2))
        for number, (status, kind, session, parent, _) in enumerate(choices):
            who: dict[str, Any] = {
                "agent_id": f"a{number}",
                "agent_type": kind,
                "session_id": session,
            }
            times = dict.fromkeys(("created_at", "last_active"), f"2026-01-01T00:00:{number:02}Z")
            times["last_updated"] = NEW_YEAR.isoformat()
            fields: dict[str, Any] = who | times | {"parent_agent_id": parent, "status": status}
            memory: dict[str, Any] = {str(n): {} for n in range(number % 5)}
            message = state_message(1, **fields, memory_context=memory)
            engine.publish(outgoing(message))
            gone: dict[str, Any] = who | {"agent_id": f"gone{number}"}
            at = NEW_YEAR.isoformat()
            gone_at: dict[str, Any] = dict.fromkeys(
                ("created_at", "last_active", "last_updated"), at
            )
            engine.publish(outgoing(state_message(1, **gone, **gone_at)))
            engine.publish(outgoing(tombstone_message(2, **gone, deleted_at=at)))
        kinds = ["handoff", "error"], ["a", "b"], [True, False], ["QA", "Developer"], range(2)
        for number, (kind, source, success, target, _) in enumerate(itertools.product(*kinds)):
            message = event_message(
                f"e{number}",
                kind,
                source_agent_id=source,
                source_agent_type="QA",
                target_agent_type=target,
                success=success,
                timestamp=f"2026-01-01T00:00:{number:02}Z",
            )
            engine.publish(outgoing(message))
        engine.settle()
    return file


def combinations(options: dict[str, tuple[str, list[Any]]]) -> list[tuple[str, ...]]:
    return [
        chosen
        for size in range(len(options) + 1)
        for chosen in itertools.combinations(options, size)
        if not {"--failed", "--succeeded"} <= set(chosen)
    ]


def asked(
    options: dict[str, tuple[str, list[Any]]], chosen: tuple[str, ...]
) -> tuple[list[str], dict[str, Any]]:
    """Give the arguments for the first value of each of the chosen, and what they ask for."""
    arguments, wanted = [], {}
    for name in chosen:
        field, values = options[name]
        wanted[field] = values[0]
        shown = values[0] if isinstance(values[0], tuple) else [str(values[0])]
        arguments += [name] if isinstance(values[0], bool) else [name, *shown]
    return arguments, wanted


@pytest.mark.parametrize("chosen", combinations(AGENTS), ids=" ".join)
def test_agents(run: Run, path: Path, chosen: tuple[str, ...]) -> None:
    """Just those that are as asked for, whatever is combined; none that was deleted."""
    arguments, wanted = asked(AGENTS, chosen)
    found = json.loads(run("agents", *arguments, "--file", str(path), "--json")[1])
    assert len(found) == 32 >> len(wanted)
    assert all(each[name] == value for each in found for name, value in wanted.items())
    (one,) = json.loads(run("agents", *arguments, "-n", "1", "--file", str(path), "--json")[1])
    assert one == found[0]


@pytest.mark.parametrize("chosen", combinations(EVENTS), ids=" ".join)
def test_events(run: Run, path: Path, chosen: tuple[str, ...]) -> None:
    """Just those that are as asked for, the newest first."""
    arguments, wanted = asked(EVENTS, chosen)
    found = json.loads(run("events", *arguments, "--file", str(path), "--json")[1])
    for each in found:
        each["types"] = (each["source_agent_type"], each["target_agent_type"])
    assert len(found) == 32 >> len(wanted)
    assert all(each[name] == value for each in found for name, value in wanted.items())
    times = [each["timestamp"] for each in found]
    assert times == sorted(times, reverse=True)


def test_the_order_of_agents(run: Run, path: Path) -> None:
    """Active last first; in a session by status; of a parent the eldest first."""

    def field(name: str, *arguments: str) -> list[str]:
        shown = run("agents", *arguments, "--file", str(path), "--json")[1]
        return [each[name] for each in json.loads(shown)]

    active = field("last_active")
    assert active == sorted(active, reverse=True)
    assert field("status", "--session", "s1") == ["busy"] * 8 + ["idle"] * 8
    born = field("created_at", "--parent", "p1")
    assert born == sorted(born)


@pytest.mark.parametrize("kind", [None, "QA"])
def test_stale_agents(run: Run, path: Path, kind: str | None) -> None:
    """Those at work that nobody has renewed for a lease, and no others."""
    of_kind = [] if kind is None else ["--type", kind]
    asked = ["agents", "--stale", *of_kind, "--file", str(path)]
    found = json.loads(run(*asked, "--json")[1])
    assert len(found) == 16 // (1 if kind is None else 2)
    assert {each["status"] for each in found} == {"busy"}
    assert "Stale agents, by session" in run(*asked)[1]
    age = datetime.now(UTC) - NEW_YEAR
    assert json.loads(run(*asked, "--lease", str(age.total_seconds() + 60), "--json")[1]) == []
    code, _, told = run(*asked, "--status", "busy")
    assert code != 0
    assert "not both" in told


def test_memories(run: Run, path: Path) -> None:
    """Of one type, and those with most memories first."""
    told = run("memory", "--type", "QA", "--file", str(path), "--json")[1]
    assert {each["agent_type"] for each in json.loads(told)} == {"QA"}
    for more in ((), ("--type", "QA")):
        told = run("memory", "--most", *more, "-n", "9", "--file", str(path), "--json")[1]
        counts = [each["memory_count"] for each in json.loads(told)]
        assert counts == sorted(counts, reverse=True)
        assert counts[0] == 4
