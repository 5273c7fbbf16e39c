"""The same messages leave the same documents on the local engine and on Firestore."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from firestate.local.engine import LocalEngine
from tests.chaos.fleet import Fleet
from tests.harness import NOW, Pipeline, everything

if TYPE_CHECKING:
    from firestate.stores.firestore import FirestoreStore


def test_the_same_documents_and_counters(store: FirestoreStore) -> None:
    """Field by field, but for times of the server."""
    fleet = Fleet(random.Random(3), "both", 6, NOW)
    fleet.begin()
    for _ in range(150):
        fleet.step()
    pipeline = Pipeline(store)
    engine = LocalEngine(clock=lambda: NOW, fold_interval_seconds=0)
    for message in fleet.sent:
        there = pipeline.send(message)
        here = engine.publish(message)
        assert (here.outcome, here.document) == (there.outcome, there.document)
    pipeline.settle()
    pipeline.fold()
    engine.settle()
    local, cloud = everything(engine.store), everything(store)
    assert local.keys() == cloud.keys()
    for path, document in local.items():
        assert counted(document) == counted(cloud[path]), path
    engine.close()


def counted(value: Any) -> Any:
    """Leave out counts of nothing: what rises and falls in one commit leaves none of them."""
    if isinstance(value, dict):
        kept = {name: counted(each) for name, each in value.items()}
        return {name: each for name, each in kept.items() if each not in (0, {})}
    return value
