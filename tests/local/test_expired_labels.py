"""Once events have expired, a memory no longer knows which words it has counted as `other`."""

from __future__ import annotations

from datetime import timedelta

from firestate.audit.full import FullAudit
from firestate.client.outgoing import outgoing
from firestate.limits import MAX_LABELS
from firestate.local.engine import LocalEngine
from firestate.queries import ALL_EVENTS
from firestate.schema.ids import shard_path
from firestate.stores.protocol import Add, Remove, Update
from tests.harness import event_message

_BEFORE = timedelta(days=100)


def test_an_audit_takes_no_word_for_drift_that_it_cannot_know() -> None:
    """The shards have counted all words by name: they are left alone, all else is compared."""
    with LocalEngine() as engine:
        for number in range(MAX_LABELS + 6):
            context = {"error_type": f"E{number:03}"}
            message = event_message(f"e{number}", success=False, context=context)
            engine.publish(outgoing(message))
        engine.settle()
        store = engine.store
        for event in list(store.query(ALL_EVENTS.query())):
            store.commit([Remove(event.path, event.token)])
        memory = store.read("agent_memory/Developer_a_1")
        assert memory is not None
        assert "other" in memory.data["learning_context"]["errors"]["by_error_type"]
        counted = memory.data["counted"]
        first_at = counted["events"]["first_at"] - _BEFORE
        early = counted | {"events": counted["events"] | {"first_at": first_at}}
        store.commit([Update(memory.path, memory.token, {"counted": early})])
        engine.settle()
        report = FullAudit(store, timedelta(0)).run()
        assert report.findings == []
        assert report.expired_events == MAX_LABELS + 6
        store.commit([Add(shard_path(0), {"errors": {"by_event_type": {"handoff": 3}}})])
        engine.settle()
        (finding,) = FullAudit(store, timedelta(0)).run().findings
        assert finding.field == "errors.by_event_type.handoff"
