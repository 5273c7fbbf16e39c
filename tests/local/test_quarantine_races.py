"""A large message is kept while others keep and drop the same one."""

from __future__ import annotations

import pytest

from firestate.errors import FieldProblem, InvalidMessageError
from firestate.ingest.refusal import quarantine_id
from firestate.operations.quarantined_messages import drop_quarantined, read_quarantined
from firestate.pipeline.deliveries import Delivery
from firestate.pipeline.quarantine import quarantine
from firestate.schema.messages import STATE_TOPIC
from firestate.stores.sqlite import SqliteStore
from tests.chaos.concurrent_writer import ConcurrentWriterStore
from tests.harness import NOW

ERROR = InvalidMessageError("schema", [FieldProblem("state", "is wrong")])
CALLS = 8


@pytest.mark.usefixtures("own_turns")
@pytest.mark.parametrize("at", range(CALLS))
@pytest.mark.parametrize("steps", ["kd", "d", "k", "kdk", "dkd"])
@pytest.mark.parametrize("size", [3_000_000, 7_000_000])
def test_no_document_without_its_bytes(
    at: int, steps: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At whatever call others keep (k) and drop (d) it: it is there whole, or not at all."""
    monkeypatch.setattr("firestate.pipeline.retry._STEP_SECONDS", 0)
    store = SqliteStore()
    delivery = Delivery(STATE_TOPIC, bytes(size))
    own_id = quarantine_id(STATE_TOPIC, delivery.data)

    def others() -> None:
        for step in steps:
            if step == "k":
                quarantine(store, delivery, ERROR, NOW)
            else:
                drop_quarantined(store, own_id)

    quarantine(ConcurrentWriterStore(store, at, others), delivery, ERROR, NOW)
    kept = read_quarantined(store, own_id)
    assert kept is None or kept.data == delivery.data
    if not steps.endswith("d"):
        assert kept is not None
    store.close()
