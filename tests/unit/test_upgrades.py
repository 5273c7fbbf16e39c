"""From version 1 of messages and documents to version 2; what is stored stays what it was."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given

from firestate.audit.recount import recount_state
from firestate.counters.contribution import contribution_of
from firestate.errors import InvalidMessageError
from firestate.ingest.events import decide_known_event, event_creation
from firestate.ingest.outcomes import Outcome
from firestate.ingest.states import decide_state
from firestate.schema.messages import StateMessage, parse_event_message, parse_state_message
from firestate.schema.models import AgentState, TaskTotals
from firestate.schema.serialization import from_document, to_document
from firestate.schema.upgrades import (
    DOCUMENT_VERSION,
    MESSAGE_VERSION,
    document_version,
    upgrade_document,
    upgrade_message,
)
from firestate.schema.values import digest, time_text
from firestate.stores.protocol import Create, Stored, Update
from tests.harness import NOW, event_message, state_message, task, tombstone_message
from tests.unit.strategies import former_task_totals, task_totals

if TYPE_CHECKING:
    from firestate.schema.messages import TombstoneMessage

GROUPS = ("kinds", "tools")


def read(message: dict[str, Any]) -> StateMessage | TombstoneMessage:
    return parse_state_message(json.dumps(message, default=time_text).encode())


def totals_in(message: dict[str, Any]) -> dict[str, Any]:
    """Return the totals of a message as its reader sees them."""
    found = read(message)
    assert isinstance(found, StateMessage)
    assert found.state.task_totals is not None
    return to_document(found.state.task_totals)


@pytest.mark.parametrize(
    ("former", "today"),
    [
        # nothing was cancelled: nothing changes
        ({"tries": 5, "successes": 3}, {"tries": 5, "successes": 3}),
        ({"tries": 5, "successes": 3, "timed": 4}, {"tries": 5, "successes": 3, "timed": 4}),
        ({"tries": 5, "successes": 3, "cancelled": 0}, {"tries": 5, "successes": 3}),
        # without `timed` all tries were timed, the cancelled too
        (
            {"tries": 5, "successes": 3, "cancelled": 2},
            {"tries": 3, "successes": 3, "cancelled": 2, "timed": 5},
        ),
        (
            {"tries": 5, "successes": 3, "cancelled": 2, "timed": None},
            {"tries": 3, "successes": 3, "cancelled": 2, "timed": 5},
        ),
        (
            {"tries": 5, "successes": 3, "cancelled": 1, "timed": 0, "duration_ms": 0},
            {"tries": 4, "successes": 3, "cancelled": 1, "timed": 0},
        ),
        (
            {"tries": 5, "successes": 3, "cancelled": 1, "timed": 5, "duration_ms": 9},
            {"tries": 4, "successes": 3, "cancelled": 1, "timed": 5, "duration_ms": 9},
        ),
        (
            {"tries": 2, "successes": 0, "cancelled": 2},
            {"tries": 0, "successes": 0, "cancelled": 2, "timed": 2},
        ),
    ],
)
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("version", [{}, {"schema_version": 1}])
def test_tries_no_longer_count_the_cancelled(
    former: dict[str, Any], today: dict[str, Any], group: str, version: dict[str, int]
) -> None:
    """In messages that say version 1, or none, and in documents, by kind and by tool."""
    totals = {group: {"code": former}}
    message = state_message(1, task_totals=totals) | version
    assert totals_in(message) == {group: {"code": today}}
    document = read(state_message(1)).model_dump()["state"] | version | {"task_totals": totals}
    found = from_document(AgentState, document).task_totals
    assert found is not None
    assert to_document(found) == {group: {"code": today}}


@pytest.mark.parametrize(
    "totals",
    [
        {},
        {"kinds": {"code": {"tries": 3, "successes": 3, "cancelled": 9}}},
        {"tools": {"ed": {"tries": 0, "successes": 0, "cancelled": 2, "timed": 2}}},
        {"errors": {"Timeout": 4}},
    ],
)
def test_totals_of_today_stay(totals: dict[str, Any]) -> None:
    """Of a message or document that says version 2 nothing is changed."""
    assert totals_in(state_message(1, task_totals=totals) | {"schema_version": 2}) == totals
    document = {"task_totals": totals, "schema_version": 2}
    assert upgrade_document(copy.deepcopy(document)) == document


@pytest.mark.parametrize(
    ("totals", "field"),
    [
        ("x", "state.task_totals"),
        ([], "state.task_totals"),
        ({"kinds": 5}, "state.task_totals.kinds"),
        ({"kinds": [{"tries": 1}]}, "state.task_totals.kinds"),
        ({"x": {"code": {"tries": 1, "cancelled": 1}}}, "state.task_totals.x"),
        ({"tools": {"code": 7}}, "state.task_totals.tools.code"),
        ({"kinds": {"code": None}}, "state.task_totals.kinds.code"),
        (
            {"kinds": {"code": {"successes": 0, "cancelled": 1}}},
            "state.task_totals.kinds.code.tries",
        ),
        (
            {"kinds": {"code": {"tries": "3", "successes": 0, "cancelled": 1}}},
            "state.task_totals.kinds.code.tries",
        ),
        (
            {"kinds": {"code": {"tries": True, "successes": 0, "cancelled": 1}}},
            "state.task_totals.kinds.code.tries",
        ),
        (
            {"kinds": {"code": {"tries": 3, "successes": 0, "cancelled": True}}},
            "state.task_totals.kinds.code.cancelled",
        ),
        (
            {"kinds": {"code": {"tries": 3, "successes": 0, "cancelled": 1.0}}},
            "state.task_totals.kinds.code.cancelled",
        ),
        (
            {"kinds": {"code": {"tries": 3, "successes": 0, "cancelled": -1}}},
            "state.task_totals.kinds.code.cancelled",
        ),
        (
            {"kinds": {"code": {"tries": 2, "successes": 0, "cancelled": 3}}},
            "state.task_totals.kinds.code.tries",
        ),
        (
            {"kinds": {"code": {"tries": 2, "successes": 2, "cancelled": 1}}},
            "state.task_totals.kinds.code",
        ),
        (
            {"kinds": {"code": {"tries": 3, "successes": 0, "cancelled": 1, "timed": 4}}},
            "state.task_totals.kinds.code",
        ),
        (
            {"kinds": {"code": {"tries": 3, "successes": 0, "cancelled": 1, "timed": "4"}}},
            "state.task_totals.kinds.code.timed",
        ),
    ],
)
def test_what_has_not_the_form_of_totals_is_refused_by_name(totals: object, field: str) -> None:
    """Bringing it up to date neither fails nor mends it."""
    with pytest.raises(InvalidMessageError) as caught:
        read(state_message(1, task_totals=totals))
    assert caught.value.code == "schema"
    assert field in {problem.field for problem in caught.value.problems}


@pytest.mark.parametrize("state", [None, 5, "x", [], {}])
def test_a_message_without_a_state_is_only_renumbered(state: object) -> None:
    """A tombstone, an event, or what is none of all."""
    raw = {"state": state, "deleted": {}, "event": {"success": True}}
    assert upgrade_message(raw) == raw | {"schema_version": MESSAGE_VERSION}


def figures(one: dict[str, Any], cancelled_tries: int) -> tuple[int, int, Fraction | None]:
    """Return how many failed, how many succeeded, and the mean duration."""
    timed = one["tries"] if one.get("timed") is None else one["timed"]
    mean = Fraction(one.get("duration_ms", 0), timed) if timed else None
    return one["tries"] - one["successes"] - cancelled_tries, one["successes"], mean


@given(former_task_totals)
def test_a_step_changes_no_figure(totals: dict[str, Any]) -> None:
    """As many have failed and succeeded, and as fast, in message and document alike."""
    before = copy.deepcopy(totals)
    stored = upgrade_document({"task_totals": totals})["task_totals"]
    assert totals == before, "what is given is not changed"
    sent = totals_in(state_message(1, task_totals=totals))
    TaskTotals.model_validate(stored)
    for group in GROUPS:
        for name, former in totals.get(group, {}).items():
            expected = figures(former, former.get("cancelled", 0))
            assert figures(stored[group][name], 0) == expected
            assert figures(sent[group][name], 0) == expected
            assert sent[group][name].get("cancelled", 0) == former.get("cancelled", 0)
            assert stored[group][name].get("last_seen") == former.get("last_seen")


@given(former_task_totals)
def test_totals_of_both_versions_are_worth_the_same(totals: dict[str, Any]) -> None:
    """A message of version 1 counts as the audit counts the document it would have been."""
    message = read(state_message(1, task_totals=totals))
    write = decide_state(None, message, NOW).write
    assert isinstance(write, Create)
    former = {**write.data, "schema_version": 1, "task_totals": totals}
    worth = recount_state(former)
    assert write.data["contribution"] == worth == recount_state(dict(write.data))
    tasks = worth["tasks"]
    kinds = totals.get("kinds", {}).values()
    assert sum(tasks.values()) == sum(kind["tries"] for kind in kinds)


@given(task_totals)
def test_a_step_is_done_once(totals: dict[str, Any]) -> None:
    """What is up to date stays as it is, however often it is read."""
    once = upgrade_document({"task_totals": totals, "schema_version": 2})
    assert once == {"task_totals": totals, "schema_version": 2}
    assert upgrade_message(upgrade_message({"state": once})) == upgrade_message({"state": once})


ONE = {"tries": 3, "successes": 2}


@pytest.mark.parametrize(
    ("fields", "version"),
    [
        ({}, 1),
        ({"deleted": True}, 1),
        ({"task_totals": None}, 1),
        ({"task_totals": {}}, 1),
        ({"task_totals": {"kinds": {"code": ONE}, "tools": {"ed": ONE}}}, 1),
        ({"task_totals": {"kinds": {"code": ONE | {"cancelled": 0}}}}, 1),
        ({"task_totals": {"kinds": {"code": ONE | {"timed": 1}}, "errors": {}}}, 1),
        ({"task_history": [task(1, "cancelled"), task(2, "failed", error_type="A")]}, 1),
        ({"parent_agent_type": "QA", "parent_session_id": "s"}, 1),
        ({"task_totals": {"kinds": {"code": ONE | {"cancelled": 1}}}}, 2),
        ({"task_totals": {"kinds": {"a": ONE, "b": ONE | {"cancelled": 1}}}}, 2),
        ({"task_totals": {"tools": {"ed": ONE | {"cancelled": 1}}}}, 2),
        ({"task_totals": {"errors": {"Timeout": 1}}}, 2),
        ({"success": False}, 1),
        ({"success": False, "cancelled": False}, 1),
        ({"success": False, "cancelled": True}, 2),
    ],
)
def test_the_version_of_a_document(fields: dict[str, Any], version: int) -> None:
    """It is 1 where readers of version 1 understand all of it."""
    assert document_version(fields) == version


@pytest.mark.parametrize(
    ("changes", "version"),
    [
        ({}, 1),
        ({"task_history": [task(1, "cancelled")]}, 1),
        ({"task_totals": {"kinds": {"code": ONE}}}, 1),
        ({"task_totals": {"kinds": {"code": ONE | {"cancelled": 1}}}}, 2),
    ],
)
def test_ingest_stores_a_state_under_its_version(changes: dict[str, Any], version: int) -> None:
    """What came in version 1 is stored in that."""
    for said, stored_as in (({}, 1), ({"schema_version": 1}, 1), ({"schema_version": 2}, version)):
        write = decide_state(None, read(state_message(1, **changes) | said), NOW).write
        assert isinstance(write, Create)
        assert write.data["schema_version"] == stored_as <= DOCUMENT_VERSION
        assert contribution_of(from_document(AgentState, write.data).model_dump())
    gone = decide_state(None, read(tombstone_message(1)), NOW).write
    assert isinstance(gone, Create)
    assert gone.data["schema_version"] == 1


def test_ingest_stores_an_event_under_its_version() -> None:
    """1, as long as it was not cancelled."""
    cases: list[tuple[dict[str, Any], int]] = [
        ({}, 1),
        ({"success": False}, 1),
        ({"success": False, "cancelled": True}, 2),
    ]
    for changes, version in cases:
        message = parse_event_message(json.dumps(event_message("e", **changes)).encode())
        assert event_creation(message, NOW).data["schema_version"] == version


THEN = datetime(2026, 11, 23, 12, tzinfo=UTC)
FIRST_EVENT = {
    "event_id": "e1",
    "event_type": "spawn",
    "timestamp": "2026-11-23T10:00:00Z",
    "source_agent_id": "a_1",
    "source_agent_type": "Developer",
    "context": {},
    "task_context": {},
    "success": True,
}
WHOLE_EVENT = FIRST_EVENT | {
    "event_id": "e2",
    "event_type": "handoff",
    "timestamp": "2026-11-23T11:00:00.123456+01:00",
    "target_agent_id": "q",
    "target_agent_type": "QA",
    "context": {"error_type": "Timeout", "nested": [{"ä": 1.5}]},
    "task_context": {"n": 1},
    "success": False,
    "session_id": "s1",
    "error_message": "late",
    "duration_seconds": 1.5,
}
STATE = {
    "agent_id": "a_1",
    "agent_type": "Developer",
    "session_id": "s1",
    "status": "busy",
    "created_at": "2026-11-23T10:00:00Z",
    "last_updated": "2026-11-23T11:00:00Z",
    "last_active": "2026-11-23T11:00:00Z",
    "memory_context": {"m": {"type": "fact", "importance": 0.75}},
    "task_history": [
        {
            "task_id": "t1",
            "kind": "code",
            "tool": "editor",
            "status": "completed",
            "duration_ms": 7,
        },
        {"task_id": "t2", "kind": "code", "status": "failed"},
    ],
    "performance_metrics": {"tokens": 5.0},
    "agent_config": {"model": "m"},
    "tools_enabled": ["editor"],
    "current_task": "t3",
    "task_status": "in_progress",
    "parent_agent_id": "father",
    "child_agent_ids": ["c"],
    "collaboration_context": {"with": "qa"},
}
TOTALS = {
    "kinds": {
        "code": {
            "tries": 5,
            "successes": 3,
            "timed": 4,
            "duration_ms": 70,
            "last_seen": "2026-11-23T11:00:00Z",
        }
    },
    "tools": {"editor": {"tries": 2, "successes": 2}},
}
GONE = {
    "agent_id": "a_1",
    "agent_type": "Developer",
    "session_id": "s1",
    "deleted_at": "2026-11-23T11:00:00Z",
}


@pytest.mark.parametrize(
    ("event", "known"),
    [
        (FIRST_EVENT, "e5cdbf0ce11da799111db45ebdbf2ce8"),  # pragma: allowlist secret
        (WHOLE_EVENT, "dca70cb4c9d8a0d9273383d3b54997ba"),  # pragma: allowlist secret
    ],
)
def test_an_event_stored_by_release_0_1_is_a_duplicate_of_itself(
    event: dict[str, Any], known: str
) -> None:
    """Its digest is what that release (30d4055) computed, however the message is numbered."""
    stored = Stored("coordination/x", {"digest": known}, "t", THEN)
    for said in ({}, {"schema_version": 1}, {"schema_version": 2}):
        for more in ({}, {"cancelled": False}):
            body = {"event": event | more} | said
            message = parse_event_message(json.dumps(body).encode())
            assert message.content_digest == known
            assert decide_known_event(stored, message) is Outcome.DUPLICATE
    cancelled = {"event": event | {"success": False, "cancelled": True}}
    assert parse_event_message(json.dumps(cancelled).encode()).content_digest != known


@pytest.mark.parametrize(
    ("body", "of_contribution", "of_digests"),
    [
        (
            {"state": STATE},
            "94212e9394275ed02cc053c51f699f6e",  # pragma: allowlist secret
            "cb02f8d9c7a750ed38c3a3b1cd808ed4",  # pragma: allowlist secret
        ),
        (
            {"state": STATE | {"task_totals": TOTALS}},
            "806064e3e0b2904f93781b5c771943ca",  # pragma: allowlist secret
            "04070c161ab5f01da2ede76f9fbb7e47",  # pragma: allowlist secret
        ),
        (
            {"deleted": GONE},
            None,
            "734644691b14b6c3d30d234ba3a244ba",  # pragma: allowlist secret
        ),
    ],
)
def test_a_state_stored_by_release_0_1_is_worth_what_it_was(
    body: dict[str, Any], of_contribution: str | None, of_digests: str
) -> None:
    """Nothing cancelled, no error types: its digests are what that release (30d4055) computed."""
    for said in ({}, {"schema_version": 1}, {"schema_version": 2}):
        message = read({"epoch": 1, "revision": 2, "writer": "w", **body, **said})
        write = decide_state(None, message, THEN).write
        assert isinstance(write, Create)
        digests = write.data["digests"]
        assert digest(digests) == of_digests
        assert of_contribution in (None, digests["contribution"])
        # As that release has stored it: without what ingest keeps today.
        former = {k: v for k, v in write.data.items() if not k.endswith("_since")}
        head = Stored(write.path, former | {"counted_version": [1, 1, 2]}, "t", THEN)
        assert decide_state(head, message, THEN).outcome is Outcome.DUPLICATE
        later = decide_state(head, message.model_copy(update={"revision": 3}), THEN).write
        assert isinstance(later, Update)
        assert later.data["counted_version"] == [1, 1, 2], "not counted again"


def test_a_state_with_cancelled_totals_stored_by_release_0_1_is_a_duplicate() -> None:
    """Its totals are stored in their former form by both releases, and not written again."""
    former = {"kinds": {"code": {"tries": 3, "successes": 1, "cancelled": 1}}}
    message = read(state_message(1, task_totals=former))
    write = decide_state(None, message, NOW).write
    assert isinstance(write, Create)
    digests = write.data["digests"] | {"task_totals": digest(former)}
    stored = {**write.data, "schema_version": 1, "task_totals": former, "digests": digests}
    head = Stored(write.path, stored, "t", NOW)
    assert decide_state(head, message, NOW).outcome is Outcome.DUPLICATE
    later = decide_state(head, message.model_copy(update={"revision": 2}), NOW).write
    assert isinstance(later, Update)
    assert later.data["schema_version"] == 1
    assert "task_totals" not in later.data
    with pytest.raises(InvalidMessageError, match="stored with other content"):
        decide_state(head, read(state_message(1, task_totals=former, current_task="x")), NOW)


@pytest.mark.parametrize("timed", [{}, {"timed": 4}])
def test_totals_of_an_earlier_client_are_stored_as_that_release_stores_them(
    timed: dict[str, int],
) -> None:
    """Both releases then agree on what is the same message; what is counted is of this one."""
    one = {"tries": 5, "successes": 2, "cancelled": 2, "duration_ms": 8, **timed}
    given = {"kinds": {"code": one, "review": {"tries": 1, "successes": 1}}}
    message = state_message(1, task_totals=given) | {"schema_version": 1}
    parsed = parse_state_message(json.dumps(message).encode())
    write = decide_state(None, parsed, NOW).write
    assert isinstance(write, Create)
    stored = write.data
    assert stored["schema_version"] == 1
    assert stored["task_totals"] == given
    assert stored["digests"]["task_totals"] == digest(given)
    assert stored["contribution"]["tasks"] == {"completed": 3, "failed": 1, "cancelled": 2}
    head = Stored(write.path, dict(stored), "token", NOW)
    assert decide_state(head, parsed, NOW).outcome is Outcome.DUPLICATE
    state = from_document(AgentState, stored)
    assert state.task_totals is not None
    code = state.task_totals.kinds["code"]
    assert (code.tries, code.timed) == (3, timed.get("timed", 5))
    # The same totals of a client of today are another content, in a form of its own.
    newer = state.model_dump(mode="json")["task_totals"]
    later = state_message(2, task_totals=newer) | {"schema_version": 2}
    update = decide_state(head, parse_state_message(json.dumps(later).encode()), NOW).write
    assert isinstance(update, Update)
    assert update.data["schema_version"] == 2
    assert update.data["task_totals"]["kinds"]["code"]["tries"] == 3
    assert "contribution" not in update.data
