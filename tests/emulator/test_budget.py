"""What a message costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from firestate.stores.protocol import Update
from tests.harness import Pipeline, state_message
from tests.load.budget import BUDGETS, costs, idle_costs
from tests.load.schedule import sweeps_a_day

if TYPE_CHECKING:
    from collections.abc import Sequence

    from firestate.stores.firestore import FirestoreStore
    from firestate.stores.protocol import Write


@pytest.mark.usefixtures("store")
def test_every_kind_of_message_is_within_its_budget(firestore_host: str, project: str) -> None:
    """Each kind of message costs at most the billed operations that the design promises."""
    measured = costs(firestore_host, project, agents=100)
    assert {cost.kind for cost in measured} == BUDGETS.keys()
    assert [cost for cost in measured if not cost.within] == []


class Noting:
    """Passes everything on, and notes what is committed."""

    def __init__(self, store: FirestoreStore) -> None:
        self._store = store
        self.written: list[Write] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, writes: Sequence[Write]) -> object:
        self.written += writes
        return self._store.commit(writes)


def test_heartbeats_are_cheap_also_for_big_states(store: FirestoreStore) -> None:
    """A heartbeat writes only the fields that changed, however big the state is."""
    memory = {"text": "x" * 200_000}
    noting: Any = Noting(store)
    pipeline = Pipeline(noting)
    pipeline.send(state_message(1, memory_context=memory))
    noting.written.clear()
    pipeline.send(state_message(2, memory_context=memory))
    (update,) = noting.written
    assert isinstance(update, Update)
    assert "memory_context" not in update.data
    assert {"last_active", "revision"} <= update.data.keys()


@pytest.mark.usefixtures("store")
def test_a_day_at_rest(firestore_host: str, project: str) -> None:
    """The schedule of functions.yaml costs at most 2,000 operations a day, 1,000 agents stored."""
    billed = idle_costs(firestore_host, project, 1_000)
    sizes = {name: each.reads + each.writes + each.deletes for name, each in billed.items()}
    audits = 24  # one an hour
    a_day = (sweeps_a_day() - audits) * sizes["sweep"] + audits * sizes["sweep with audit"]
    assert sizes == {"sweep": 14, "sweep with audit": 32}
    assert a_day == 1_776
