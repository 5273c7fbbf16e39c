"""Deleting ended sessions, on any store: on condition of what was read."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from firestate.errors import DamagedDocumentError
from firestate.operations.clean_up import delete_ended, ended_sessions
from firestate.queries import CURRENT_STATUSES
from firestate.schema.ids import Identity
from firestate.stores.protocol import Create, Remove, Update
from tests.harness import NOW, Pipeline, state_message

if TYPE_CHECKING:
    from firestate.stores.protocol import Store

BEFORE = NOW - timedelta(days=7)


def save(pipeline: Pipeline, name: str, status: str, days: float, epoch: int = 1) -> Identity:
    """Store a state that was last active days ago."""
    at = (NOW - timedelta(days=days)).isoformat()
    fields = {"agent_id": name, "status": status, "last_active": at}
    pipeline.send(state_message(1, epoch=epoch, **fields))
    return Identity("Developer", name, "s1")


class CleanUpContract:
    """Run on each store."""

    def test_only_what_has_ended_long_ago_is_found(self, store: Store) -> None:
        """What lives is not, at any age, nor what ended of late; what was active last is first."""
        pipeline = Pipeline(store)
        for status in CURRENT_STATUSES:
            save(pipeline, status, status, days=400)
        save(pipeline, "late", "terminated", days=6)
        older = save(pipeline, "older", "terminated", days=30)
        old = save(pipeline, "old", "terminated", days=8)
        found = list(ended_sessions(store, BEFORE))
        assert [each.identity for each in found] == [old, older]
        assert found[0].last_active == NOW - timedelta(days=8)

    def test_a_document_that_no_agent_wrote_is_left_alone(self, store: Store) -> None:
        """Whatever it says of itself."""
        foreign = {"status": "terminated", "last_active": NOW - timedelta(days=9)}
        ids = {"agent_type": "QA", "agent_id": "7", "session_id": "s"}
        others: list[dict[str, Any]] = [{"agent_id": 7}, ids]
        for number, fields in enumerate(others):
            store.commit([Create(f"agent_states/foreign-{number}", {**foreign, **fields})])
        assert list(ended_sessions(store, BEFORE)) == []

    def test_a_document_that_is_damaged_is_named(self, store: Store) -> None:
        """It is left as it is."""
        old = save(Pipeline(store), "old", "terminated", days=8)
        stored = store.read(old.state_path)
        assert stored is not None
        store.commit([Remove(stored.path, stored.token, [("digests",)])])
        with pytest.raises(DamagedDocumentError, match="Developer_old_s1 lacks digests"):
            delete_ended(store, old, BEFORE, NOW)

    def test_what_a_former_holder_has_saved_late_goes_with_its_session(self, store: Store) -> None:
        pipeline = Pipeline(store)
        at = (NOW - timedelta(days=8)).isoformat()
        ended: dict[str, Any] = {"agent_id": "old", "status": "terminated", "last_active": at}
        notes = {"taken_along": {"1": {"revision": 1}}, "taken_by": "w"}
        old = save(pipeline, "old", "idle", days=9)
        pipeline.send(state_message(1, epoch=5, **ended, collaboration_context=notes))
        pipeline.send(state_message(3, agent_id="old"))
        late = f"{old.state_path}/late/1"
        assert store.read(late) is not None
        assert delete_ended(store, old, BEFORE, NOW)
        assert store.read(late) is None

    def test_a_deleted_session_is_a_tombstone_and_counted_so(self, store: Store) -> None:
        """That it was spawned stays counted, and every counter is what the documents say."""
        pipeline = Pipeline(store)
        old = save(pipeline, "old", "terminated", days=8)
        pipeline.settle()
        assert delete_ended(store, old, BEFORE, NOW)
        stored = store.read(old.state_path)
        assert stored is not None
        pipeline.trigger(stored)
        pipeline.fold()
        assert stored.data["deleted"] is True
        assert "memory_context" not in stored.data
        assert pipeline.audit().drift == 0
        assert list(ended_sessions(store, BEFORE)) == []
        assert not delete_ended(store, old, BEFORE, NOW), "it is gone already"

    @pytest.mark.parametrize("change", [{"status": "busy"}, {"last_active": NOW}])
    def test_a_session_that_is_taken_up_in_between_stays(
        self, store: Store, change: dict[str, object]
    ) -> None:
        """Whether before it is read once more, or after."""
        old = save(Pipeline(store), "old", "terminated", days=8)
        (found,) = ended_sessions(store, BEFORE)

        class TakenUp:
            """Has it taken up just before the commit."""

            def __getattr__(self, name: str) -> Any:
                if name == "commit":
                    stored = store.read(old.state_path)
                    assert stored is not None
                    store.commit([Update(stored.path, stored.token, change)])
                return getattr(store, name)

        assert not delete_ended(cast("Store", TakenUp()), found.identity, BEFORE, NOW)
        assert not delete_ended(store, found.identity, BEFORE, NOW)
        stored = store.read(old.state_path)
        assert stored is not None
        assert "deleted" not in stored.data

    def test_whoever_still_holds_a_deleted_session_is_superseded(self, store: Store) -> None:
        """What it saves does not bring back what is gone."""
        pipeline = Pipeline(store)
        old = save(pipeline, "old", "terminated", days=8, epoch=5)
        assert delete_ended(store, old, BEFORE, NOW)
        pipeline.send(state_message(2, epoch=5, agent_id="old", status="active"))
        stored = store.read(old.state_path)
        assert stored is not None
        assert stored.data["deleted"] is True
        assert stored.data["fenced_writer"] == "w"
