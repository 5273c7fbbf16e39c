"""Documents that somebody else has put into our collections."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from firestate.audit.full import FullAudit
from firestate.client.outgoing import outgoing
from firestate.ingest.outcomes import Outcome
from firestate.operations.quarantined_messages import read_quarantined
from firestate.pipeline.derive_state import derive_state
from firestate.queries import ALL_KEPT
from firestate.stores.protocol import Create, Remove, Stored, Update
from tests.harness import NOW, event_message, state_message

if TYPE_CHECKING:
    from firestate.local.engine import LocalEngine

_STATE = {"agent_type": "QA", "agent_id": "a", "session_id": "s"}
_EVENT = {
    "event_id": "e",
    "event_type": "handoff",
    "timestamp": NOW,
    "source_agent_type": "QA",
    "source_agent_id": "a",
}
FOREIGN: list[tuple[str, dict[str, Any]]] = [
    ("agent_states/notes", {"text": "hello", "at": NOW, "octets": b"\x00\xff"}),
    ("agent_states/empty", {}),
    ("agent_states/QA_a_s", _STATE | {"agent_id": 7}),
    ("agent_states/elsewhere", _STATE),
    ("coordination/notes", {"text": "hello"}),
    *((f"coordination/{name}", _EVENT | {name: 5}) for name in _EVENT),
]


def kept(engine: LocalEngine) -> list[Stored]:
    return list(engine.store.query(ALL_KEPT.query()))


@pytest.mark.parametrize(("path", "data"), FOREIGN)
def test_a_foreign_document_ends_in_quarantine(
    engine: LocalEngine, path: str, data: dict[str, Any]
) -> None:
    """With all it holds and its path; the collection is without it, and nothing is tried again."""
    engine.store.commit([Create(path, data)])
    engine.settle(timeout_seconds=5)
    assert engine.store.read(path) is None
    (document,) = kept(engine)
    assert document.data["code"] == "foreign"
    assert path in document.data["errors"][0]["reason"]
    found = read_quarantined(engine.store, document.id)
    assert found is not None
    content = json.loads(found.data)
    assert content["path"] == path
    assert content["document"].keys() == data.keys()
    assert FullAudit(engine.store, timedelta(0)).run().findings == []


def test_it_holds_up_no_other(engine: LocalEngine) -> None:
    """What agents have written beside it is counted, and stays."""
    engine.store.commit([Create("agent_states/notes", {"text": "hello"})])
    engine.publish(outgoing(state_message(1)))
    engine.publish(outgoing(event_message("e1")))
    engine.settle(timeout_seconds=5)
    assert len(kept(engine)) == 1
    assert engine.store.read("agent_memory/Developer_a_1") is not None
    assert engine.store.read("agent_states/Developer_a_1_s1") is not None


def test_a_crash_after_it_was_kept(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trigger comes again, and the document is kept once."""
    engine.store.commit([Create("agent_states/notes", {"text": "hello"})])
    brought = engine.store.read("agent_states/notes")
    assert brought is not None
    commit = engine.store.commit

    def crash_on_removal(writes: Any) -> object:
        if isinstance(writes[0], Remove):
            raise KeyboardInterrupt
        return commit(writes)

    with monkeypatch.context() as patch:
        patch.setattr(engine.store, "commit", crash_on_removal)
        with pytest.raises(KeyboardInterrupt):
            derive_state(engine.store, brought)
    assert derive_state(engine.store, brought).outcome is Outcome.QUARANTINED
    assert derive_state(engine.store, brought).outcome is Outcome.IGNORED
    (document,) = kept(engine)
    assert document.data["deliveries"] == 2
    assert engine.store.read("agent_states/notes") is None


def test_one_that_was_mended_meanwhile_stays(engine: LocalEngine) -> None:
    """The trigger of an earlier version finds it good, and does nothing."""
    engine.publish(outgoing(state_message(1)))
    path = "agent_states/Developer_a_1_s1"
    stored = engine.store.read(path)
    assert stored is not None
    earlier = Stored(path, {"text": "hello"}, stored.token, stored.updated_at)
    assert derive_state(engine.store, earlier).outcome is Outcome.IGNORED
    assert engine.store.read(path) is not None
    assert kept(engine) == []


def test_one_that_is_written_as_it_is_kept(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays for its own trigger, which does the same: no version is lost."""
    path = "agent_states/notes"
    engine.store.commit([Create(path, {"text": "one"})])
    commit = engine.store.commit

    def written_first(writes: Any) -> object:
        if isinstance(writes[0], Remove) and (known := engine.store.read(path)):
            monkeypatch.undo()
            commit([Update(path, known.token, {"text": "two"})])
        return commit(writes)

    monkeypatch.setattr(engine.store, "commit", written_first)
    engine.settle(timeout_seconds=5)
    assert engine.store.read(path) is None
    assert len(kept(engine)) == 2


def test_functions_load_nothing_for_it_as_they_start() -> None:
    """What reads messages takes most of a cold start, and functions that derive read none."""
    program = "import sys, firestate.pipeline.derive_state, firestate.pipeline.derive_event;"
    program += "sys.exit('pydantic' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
