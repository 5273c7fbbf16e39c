"""What a message costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.load.budget import BUDGETS, costs

if TYPE_CHECKING:
    from firestate.stores.firestore import FirestoreStore


@pytest.mark.usefixtures("store")
def test_every_kind_of_message_is_within_its_budget(firestore_host: str, project: str) -> None:
    """Each kind of message costs at most the billed operations that the design promises."""
    measured = costs(firestore_host, project, agents=100)
    assert {cost.kind for cost in measured} == BUDGETS.keys()
    assert [cost for cost in measured if not cost.within] == []


def test_heartbeats_are_cheap_also_for_big_states(store: FirestoreStore) -> None:
    """A heartbeat writes only the fields that changed, however big the state is."""
    from firestate.stores.protocol import Update  # noqa: PLC0415 - used here alone
    from tests.emulator.harness import NOW, Pipeline, state_message  # noqa: PLC0415

    big = {"memory_context": {"text": "x" * 200_000}}
    pipeline = Pipeline(store)
    pipeline.send(state_message(1, **big))
    written = []
    commit = store.commit
    pipeline.store = type("Noting", (), {"__getattr__": lambda _, name: getattr(store, name)})()
    pipeline.store.commit = lambda writes: (written.extend(writes), commit(writes))[1]  # type: ignore[method-assign]
    pipeline.send(state_message(2, **big), NOW)
    (update,) = written
    assert isinstance(update, Update)
    assert "memory_context" not in update.data
    assert {"last_active", "revision"} <= update.data.keys()
