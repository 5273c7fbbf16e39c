"""What lies over the store: a read is told what a store would tell that has one's own writes."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from firestate.agents.reading.answers import Lookup, ReadRequest
from firestate.agents.reading.read_your_writes import event_document, state_document
from firestate.agents.reading.state_queries import newest_states
from firestate.agents.reading.store_reader import StoreReader
from firestate.lookup import look_up as looked_up
from firestate.outbox.entries import NewEntry
from firestate.outbox.file import Outbox
from firestate.queries import (
    CURRENT_STATUSES,
    EVERY_EVENT_TYPE,
    EVERY_STATUS,
    LOOK_UP_AGENTS,
    LOOK_UP_EVENTS,
    STALE,
)
from firestate.schema.ids import Identity, event_path
from firestate.schema.values import time_text
from firestate.stores.protocol import Create
from firestate.stores.sqlite import SqliteStore
from tests.agents.fake_backend import FakeBackend
from tests.agents.outbox_fixtures import PLENTY
from tests.harness import NOW, event_message, state_message, tombstone_message

if TYPE_CHECKING:
    from collections.abc import Iterable

    from firestate.stores.protocol import Stored

Messages = dict[str, bytes]

moments = st.integers(0, 3).map(lambda minutes: time_text(NOW + timedelta(minutes=minutes)))


@st.composite
def state_messages(draw: st.DrawFn) -> Messages:
    """Draw states of few sessions, one each, by their paths; some are deleted."""
    found: Messages = {}
    who = st.tuples(st.sampled_from(["A", "B"]), st.sampled_from("xy"), st.sampled_from(["s", "t"]))
    for identity in draw(st.sets(who, max_size=6)):
        named = Identity(*identity)._asdict()
        revision, epoch = draw(st.integers(1, 3)), draw(st.integers(1, 2))
        if draw(st.integers(0, 5)) == 0:
            message = tombstone_message(revision, epoch, **named)
        else:
            changes: dict[str, Any] = {
                "status": draw(st.sampled_from(["idle", "busy", "terminated"])),
                "last_active": draw(moments),
                "created_at": draw(moments),
            }
            if draw(st.booleans()):
                changes["parent_agent_id"] = draw(st.sampled_from("pq"))
            message = state_message(revision, epoch, **(named | changes))
        found[Identity(*identity).state_path] = json.dumps(message).encode()
    return found


@st.composite
def event_messages(draw: st.DrawFn) -> Messages:
    """Draw events of few kinds at few times."""
    found: Messages = {}
    for number in draw(st.sets(st.integers(0, 9), max_size=6)):
        at = NOW + timedelta(minutes=number // 3)
        kind = ["handoff", "error"][number % 2]
        message = event_message(
            f"e{number}", kind, timestamp=time_text(at), source_agent_id="xyz"[number % 3]
        )
        found[event_path(at, f"e{number}")] = json.dumps(message).encode()
    return found


limits = st.one_of(st.none(), st.integers(1, 5))
asked_of_agents: st.SearchStrategy[Lookup] = st.one_of(
    st.builds(
        Lookup,
        st.just(LOOK_UP_AGENTS),
        st.fixed_dictionaries(
            {"status": st.sampled_from([CURRENT_STATUSES, "idle"])},
            optional={
                "session_id": st.sampled_from(["s", "t", None]),
                "agent_type": st.sampled_from(["A", "B", None]),
                "parent_agent_id": st.sampled_from(["p", None]),
            },
        ),
        limit=limits,
    ),
    st.builds(newest_states, st.sampled_from("AB"), st.sampled_from("xy"), st.integers(1, 3)),
    st.builds(
        Lookup,
        st.just((STALE,)),
        st.just({"status": EVERY_STATUS}),
        until=st.just(NOW + timedelta(minutes=2)),
        limit=limits,
    ),
)
asked_of_events = st.builds(
    Lookup,
    st.just(LOOK_UP_EVENTS),
    st.sampled_from(
        [
            {"event_type": EVERY_EVENT_TYPE, "source_agent_id": None},
            {"event_type": "error", "source_agent_id": None},
            {"event_type": "error", "source_agent_id": "x"},
            {"event_type": None, "source_agent_id": "y"},
        ]
    ),
    since=st.sampled_from([None, NOW + timedelta(minutes=1)]),
    limit=limits,
)


def put(outbox: Outbox, path: str, data: bytes) -> None:
    raw = json.loads(data)
    order = (raw["epoch"], raw["revision"]) if "epoch" in raw else None
    outbox.put(NewEntry(document=path, agent="a", topic="t", data=data, order=order))


def fill(store: SqliteStore, documents: Iterable[tuple[str, dict[str, Any]]]) -> None:
    for path, data in documents:
        store.commit([Create(path, data)])


def asked(store: SqliteStore, find: Lookup) -> list[Stored]:
    return list(
        looked_up(
            store, find.shapes, find.wanted, low=find.since, high=find.until, limit=find.limit
        )
    )


def order_of(data: dict[str, Any]) -> tuple[int, int]:
    return data["epoch"], data["revision"]


def told(stored: Messages, own: Messages, find: Lookup, *, states: bool) -> tuple[Any, Any]:
    """Give what a reader is told, and what a store tells that has `own` as well."""
    document = state_document if states else event_document
    there = {path: document(data) for path, data in stored.items()}
    mine = {path: document(data) for path, data in own.items()}
    engine, outbox, other = FakeBackend(), Outbox(None, most_bytes=PLENTY), SqliteStore()
    engine.is_near = True
    fill(engine.stored, there.items())
    found = {each.path for each in asked(engine.stored, find)}
    together = dict(there)
    for path, data in mine.items():
        before = there.get(path)
        if before is None or (states and order_of(data) > order_of(before)):
            together[path] = data
        elif path not in found:
            continue  # another process has replaced it since, out of sight of the query
        put(outbox, path, own[path])
    fill(other, together.items())
    reader = StoreReader(engine, outbox, patience_seconds=1)
    answer = reader.ask(ReadRequest(find, lambda documents, fresh: documents if fresh else None))
    expected = [each.data for each in asked(other, find)]
    other.close()
    outbox.close()
    engine.close()
    return answer, expected


@given(state_messages(), state_messages(), asked_of_agents)
def test_own_states_lie_over_stored_ones(stored: Messages, own: Messages, find: Lookup) -> None:
    answer, expected = told(stored, own, find, states=True)
    assert answer == expected


@given(event_messages(), event_messages(), asked_of_events)
def test_own_events_lie_over_stored_ones(stored: Messages, own: Messages, find: Lookup) -> None:
    answer, expected = told(stored, own, find, states=False)
    assert answer == expected


@given(state_messages(), state_messages())
def test_one_session_is_read_as_its_latest(stored: Messages, own: Messages) -> None:
    engine, outbox = FakeBackend(), Outbox(None, most_bytes=PLENTY)
    engine.is_near = True
    fill(engine.stored, ((path, state_document(data)) for path, data in stored.items()))
    for path, data in own.items():
        put(outbox, path, data)
    reader = StoreReader(engine, outbox, patience_seconds=1)
    for path in stored.keys() | own.keys():
        found = [state_document(each[path]) for each in (stored, own) if path in each]
        latest = max(found, key=order_of)
        identity = Identity(*(latest[name] for name in Identity._fields))
        assert reader.ask(ReadRequest(identity, lambda documents, _: documents)) == [latest]
    outbox.close()
    engine.close()


def test_what_own_writes_push_down_makes_room_for_what_the_limit_has_hidden() -> None:
    def states(epoch: int, **times: int) -> Messages:
        return {
            Identity("A", "x", session).state_path: json.dumps(
                state_message(
                    1,
                    epoch,
                    agent_type="A",
                    agent_id="x",
                    session_id=session,
                    last_active=time_text(NOW + timedelta(minutes=minutes)),
                )
            ).encode()
            for session, minutes in times.items()
        }

    answer, expected = told(
        states(1, s=3, t=2, u=1), states(2, s=0), newest_states("A", "x", 2), states=True
    )
    assert answer == expected
    assert [each["session_id"] for each in answer] == ["t", "u"]
