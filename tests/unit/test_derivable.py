"""Every accepted message can be derived: all that it becomes is a document that can be stored."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from firestate.counters.event_counts import event_counts
from firestate.counters.ledger import difference, new_row
from firestate.derive.memory import memory_document, parts_of
from firestate.derive.memory_events import EventsPart, add_event
from firestate.derive.memory_rows import RowsPart, fold_rows, replace_row
from firestate.errors import InvalidMessageError
from firestate.ingest.events import event_creation
from firestate.ingest.states import decide_state
from firestate.limits import MAX_DOCUMENT_BYTES, MAX_EVENT_BYTES, MAX_STATE_BYTES
from firestate.schema.messages import (
    EventMessage,
    StateMessage,
    parse_event_message,
    parse_state_message,
)
from firestate.schema.upgrades import MESSAGE_VERSION
from firestate.schema.values import problems_of, stored_size, time_text
from firestate.stores.protocol import Create, Stored, Update
from tests.harness import NOW, event_message, state_message
from tests.unit.largest_messages import EXTREMES, LAST_DAY, WHO
from tests.unit.strategies import good_maps, memories, task_totals, tasks, words

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from firestate.schema.ids import Identity


def check(path: str, document: Mapping[str, Any]) -> None:
    """Assert that a store takes `document`."""
    assert stored_size(dict(document)) + len(path.encode()) + 1 < MAX_DOCUMENT_BYTES
    for name, value in document.items():
        assert list(problems_of(value, name)) == []


def derive_states(*messages: StateMessage, now: datetime = NOW) -> None:
    """Take messages of one session all the way, in order."""
    head: Stored | None = None
    part: RowsPart | None = RowsPart()
    row: dict[str, Any] | None = None
    for message in messages:
        identity = message.identity
        document = _stored(head, message, now)
        check(identity.state_path, document)
        head = Stored(identity.state_path, document, None, NOW)
        version, contribution = document["counted_version"], document["contribution"]
        new = new_row(row, identity, version, document["counted_at"], contribution)
        check(identity.row_path, new)
        check("shard", difference(identity, row, new))
        assert part is not None
        part = replace_row(part, row, new) or fold_rows([new])
        row = new
        check_memory(identity, part, EventsPart())


def _stored(head: Stored | None, message: StateMessage, now: datetime) -> dict[str, Any]:
    write = decide_state(head, message, now, of_any_age=True).write
    if isinstance(write, Create):
        return dict(write.data)
    assert isinstance(write, Update)
    assert head is not None
    merged = head.data | dict(write.data)
    return {name: value for name, value in merged.items() if name not in write.removed}


def check_memory(identity: Identity, rows: RowsPart, events: EventsPart) -> None:
    """Assert that the memory can be stored, and read back."""
    document = memory_document(identity.agent_type, identity.agent_id, rows, events)
    check(identity.memory_path, document)
    assert parts_of(document) == (rows, events)


def accepted(message: dict[str, Any]) -> StateMessage | None:
    """Read a state message of today's version; None if it is refused."""
    message = message | {"schema_version": MESSAGE_VERSION}
    try:
        found = parse_state_message(json.dumps(message, default=time_text).encode())
    except InvalidMessageError:
        return None
    return found if isinstance(found, StateMessage) else None


@pytest.mark.parametrize("name", EXTREMES)
@pytest.mark.parametrize("full", [False, True])
def test_extreme_states_can_be_derived(name: str, *, full: bool) -> None:
    """Each limit reached, in a state of any size up to the largest."""
    raw = state_message(1, **EXTREMES[name])
    if full:
        left = MAX_STATE_BYTES - stored_size(raw["state"] | {"agent_config": {"pad": ""}})
        raw["state"]["agent_config"] = {"pad": "x" * left}
    first, second = accepted(raw), accepted(raw | {"revision": 2})
    assert first is not None
    assert second is not None
    empty = accepted(state_message(3, **{key: first.state.model_dump()[key] for key in WHO}))
    assert empty is not None
    derive_states(first, second, empty, first.model_copy(update={"revision": 4}), now=LAST_DAY)


state_changes = st.fixed_dictionaries(
    {},
    optional={
        "memory_context": st.one_of(
            good_maps, st.dictionaries(words.filter(bool), memories, max_size=4)
        ),
        "task_history": st.lists(tasks, max_size=5),
        "agent_config": good_maps,
        "collaboration_context": good_maps,
        "task_totals": task_totals,
        "status": st.sampled_from(["idle", "error", "terminated"]),
    },
)


@given(st.lists(state_changes, min_size=1, max_size=3))
def test_any_states_can_be_derived(changes: list[dict[str, Any]]) -> None:
    """Whatever the parser accepts, one after the other."""
    raws = [state_message(number, **each) for number, each in enumerate(changes)]
    messages = [message for raw in raws if (message := accepted(raw)) is not None]
    assume(messages)
    derive_states(*messages)


def derive_event(raw: dict[str, Any]) -> None:
    """Take an event all the way, a hundred times over for the memory."""
    message = parse_event_message(json.dumps(raw).encode())
    assert isinstance(message, EventMessage)
    write = event_creation(message, NOW)
    check(write.path, write.data)
    check("shard", event_counts(write.data))
    part = EventsPart()
    for number in range(101):
        at = write.data["timestamp"] - timedelta(seconds=number)
        part = add_event(part, dict(write.data) | {"timestamp": at})
    document = memory_document("T" * 400, "a" * 400, RowsPart(), part)
    check("memory", document)


LONG_WORDS: tuple[Any, ...] = (
    "x" * 500,
    "__x__",
    "__" + "ä" * 300 + "__",
    "😀" * 99,
    "",
    7,
    None,
    [],
)


@pytest.mark.parametrize("error_type", LONG_WORDS)
@pytest.mark.parametrize("kind", ["spawn", "error"])
def test_extreme_events_can_be_derived(kind: str, error_type: object) -> None:
    """Full to the byte, with the longest ids and words."""
    raw = event_message(
        "e" * 400,
        kind,
        source_agent_id="a" * 400,
        source_agent_type="T" * 400,
        target_agent_id="t" * 400,
        target_agent_type="t" * 400,
        session_id="s" * 400,
        success=False,
        duration_seconds=1e9,
        context={"error_type": error_type, "deep": {"k": 1}, "pad": ""},
        error_message="",
    )
    left = MAX_EVENT_BYTES - stored_size(raw["event"])
    raw["event"]["context"]["pad"] = "x" * left
    derive_event(raw)


@given(
    good_maps,
    good_maps,
    words,
    st.floats(0, 1e9),
    st.sampled_from(["succeeded", "failed", "cancelled"]),
)
def test_any_events_can_be_derived(
    context: dict[str, Any],
    task_context: dict[str, Any],
    error_type: str,
    duration: float,
    outcome: str,
) -> None:
    """Whatever the parser accepts."""
    context = context | {"error_type": error_type}
    derive_event(
        event_message(
            "e",
            context=context,
            task_context=task_context,
            duration_seconds=duration,
            success=outcome == "succeeded",
            cancelled=outcome == "cancelled",
        )
    )
