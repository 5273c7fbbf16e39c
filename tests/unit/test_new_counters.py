"""What must not be forgotten with a new counter (ARCHITECTURE.md, "Where to add").

That two programs count alike is tested with random states, events and shards: about what these do
not hold, any two agree.
"""

from __future__ import annotations

from io import StringIO
from typing import Any

from hypothesis import given
from rich.console import Console

from firestate.cli.system import system_table
from firestate.counters.contribution import contribution_of
from firestate.counters.event_counts import event_counts
from firestate.counters.labels import label
from firestate.counters.ledger import difference, new_row
from firestate.counters.shard_totals import global_document
from firestate.schema.ids import Identity
from firestate.schema.models import AgentState, CoordinationEvent
from tests.unit.random_shards import CLOSED, GROUPS, OF_EVENTS, OF_ROWS, OF_ROWS_BESIDE_EVENTS
from tests.unit.strategies import (
    ALWAYS_IN_EVENTS,
    ALWAYS_IN_STATES,
    IN_CONTEXT,
    IN_USER_MAPS,
    NOW,
    SOMETIMES_IN_EVENTS,
    SOMETIMES_IN_STATES,
    events,
    states,
)
from tests.unit.test_contribution import flat

IN_LEARNING_CONTEXT = {"sessions", "tasks"}


class Asked(dict[str, Any]):
    """A map that remembers which of its fields were asked for."""

    def __init__(self, fields: dict[str, Any]) -> None:
        super().__init__(fields)
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)

    def __getitem__(self, name: str) -> Any:
        self.names.add(name)
        return super().__getitem__(name)


def test_every_field_is_drawn() -> None:
    """Of states and of events, whether it is counted today or not."""
    assert ALWAYS_IN_STATES.keys() | SOMETIMES_IN_STATES.keys() == AgentState.model_fields.keys()
    of_events = CoordinationEvent.model_fields.keys()
    assert ALWAYS_IN_EVENTS.keys() | SOMETIMES_IN_EVENTS.keys() == of_events


@given(states())
def test_random_states_have_what_is_counted(document: dict[str, Any]) -> None:
    """In the maps of users, each key that the counting looks at is drawn."""
    maps = {name: Asked(document[name]) for name in IN_USER_MAPS if name in document}
    contribution_of(document | maps)
    missing = {
        name: each.names - IN_USER_MAPS[name].keys()
        for name, each in maps.items()
        if not each.names <= IN_USER_MAPS[name].keys()
    }
    assert not missing, f"add these to IN_USER_MAPS in strategies.py: {missing}"


@given(events)
def test_random_events_have_what_is_counted(event: dict[str, Any]) -> None:
    """In an event's context, each key that the counting looks at is drawn."""
    context = Asked(event["context"])
    event_counts(event | {"context": context})
    missing = context.names - IN_CONTEXT.keys()
    assert not missing, f"let events() in strategies.py draw these of the context: {missing}"


@given(events)
def test_what_events_add_has_a_form(event: dict[str, Any]) -> None:
    """`group.number`, or `group.by_something.word`: so memories bound it, and shards are random."""
    for group, members in event_counts(event).items():
        assert group in OF_EVENTS, f"add {group} to OF_EVENTS in random_shards.py"
        assert group not in IN_LEARNING_CONTEXT | OF_ROWS.keys(), f"{group} is a name that is taken"
        for name, value in members.items():
            assert name in OF_EVENTS[group], f"add {group}.{name} to OF_EVENTS in random_shards.py"
            if isinstance(value, int):
                continue
            assert name.startswith("by_"), f"{group}.{name} has words: call it by_something"
            plain = all(isinstance(each, int) for each in value.values())
            assert plain or name in CLOSED, f"{group}.{name}: memories bound counts by word alone"


@given(states())
def test_random_shards_have_what_rows_add(document: dict[str, Any]) -> None:
    """The same for agents."""
    change = added_by(document)
    missing = change.keys() - OF_ROWS.keys() - OF_ROWS_BESIDE_EVENTS.keys()
    assert not missing, f"add these to OF_ROWS in random_shards.py: {missing}"
    for group, members in OF_ROWS_BESIDE_EVENTS.items():
        missing = change.get(group, {}).keys() - members.keys()
        assert not missing, f"add {group}.{missing} to OF_ROWS_BESIDE_EVENTS in random_shards.py"


def added_by(document: dict[str, Any]) -> dict[str, Any]:
    """Return what a session adds to the shards, with its first row."""
    identity = Identity("Father", "a", "s1")
    row = new_row(None, identity, (1, 1, 1), NOW, contribution_of(document))
    return difference(identity, None, row)


@given(states(), events)
def test_users_words_are_bounded_and_escaped(
    document: dict[str, Any], event: dict[str, Any]
) -> None:
    """What becomes a key of a counter is one that can be written, and no longer than it may be."""
    for counts in (added_by(document), event_counts(event)):
        for path in flat(counts):
            for key in path:
                assert label(key, "") == key, f"{'.'.join(path)}: use counters.labels.label"


def test_whatever_is_counted_is_shown() -> None:
    """Each figure of a shard is found in `global_config`."""
    wanted: dict[int, str] = {}

    def numbered(path: str) -> int:
        wanted[1_000_003 + len(wanted)] = path
        return max(wanted)

    shard: dict[str, Any] = {
        **{name: numbered(name) for name in ("spawned", "current")},
        **{name: {"x": numbered(name)} for name in OF_ROWS if name.startswith("by_")},
        "tasks": {"completed": numbered("tasks")},
    }
    for group, members in GROUPS.items():
        shard[group] = {
            name: (
                {"error": {"total": numbered(f"{group}.{name}")}}
                if (group, name) == ("coordination", "by_type")
                else {"x": numbered(f"{group}.{name}")}
                if name.startswith("by_")
                else numbered(f"{group}.{name}")
            )
            for name in members
        }
    left = OF_ROWS.keys() - shard.keys() - {"sessions"}
    assert not left, f"say here how a shard has these, so that it is seen to be shown: {left}"
    shown = set(_numbers(global_document([shard], None, {})))
    assert [path for number, path in wanted.items() if number not in shown] == []


def _numbers(value: Any) -> list[int]:
    if isinstance(value, dict):
        return [number for each in value.values() for number in _numbers(each)]
    return [value] if isinstance(value, int) else []


def test_each_figure_has_a_line_for_people() -> None:
    """`firestate system` shows each, and does without one that an earlier release did not have."""
    shard = {
        "spawned": 1,
        "current": 1,
        "sessions": {"s": {"agents": 1}},
        **{name: {"x": 1} for name in OF_ROWS if name.startswith("by_")},
        **{
            group: {
                name: {"x": {"total": 1}}
                if (group, name) == ("coordination", "by_type")
                else ({"x": 1} if name.startswith("by_") else 1)
                for name in members
            }
            for group, members in GROUPS.items()
        },
    }
    data = global_document([shard], None, {})
    whole = _rendered(data)
    for part in ("system_metrics", "error_counts"):
        for name in data[part]:
            less = {key: value for key, value in data[part].items() if key != name}
            assert _rendered(data | {part: less}) != whole, f"system_table does not show {name}"


def _rendered(data: dict[str, Any]) -> str:
    out = Console(width=200, file=StringIO())
    out.print(system_table(data))
    told = out.file
    assert isinstance(told, StringIO)
    return told.getvalue()
