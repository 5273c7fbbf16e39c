"""Bad messages by the thousand between good ones: each is kept, none gets through, none loops."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from firestate.client.outgoing import Outgoing, outgoing
from firestate.ingest.outcomes import Outcome
from firestate.ingest.refusal import quarantine_id
from firestate.local.engine import LocalEngine
from firestate.operations.quarantined_messages import read_quarantined
from firestate.schema.ids import EVENTS, GLOBAL_CONFIG, STATES
from firestate.stores.protocol import Query
from tests.chaos.bad_kinds import LARGE as LARGER
from tests.chaos.bad_messages import KINDS, BadMessage, bad_message
from tests.chaos.document_order import path_of
from tests.chaos.fleet import Fleet
from tests.chaos.oracle import expected_totals, found_totals
from tests.chaos.settings import bad_messages
from tests.harness import NOW, Pipeline, event_message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from firestate.pipeline.deliveries import StepReport
    from firestate.stores.firestore import FirestoreStore
    from firestate.stores.protocol import Store

ON_FIRESTORE = 300
NINE_MB = 9_000_000
STORED = (Outcome.STORED, Outcome.SUPERSEDED, Outcome.DUPLICATE)


def bad_ones(small: int, large: int) -> Iterator[BadMessage]:
    """Draw bad messages: each class often, and some that are filled up to 9 MB."""
    draw = random.Random(small)
    kinds = list(KINDS)
    for number in range(small):
        yield bad_message(draw, kinds[number % len(kinds)] if number < 3 * len(kinds) else None)
    for _ in range(large):
        bad = bad_message(draw, draw.choice([kind for kind in kinds if kind not in LARGER]))
        filling = draw.choice([b" ", b"\n \t", draw.randbytes(1000)])
        data = bad.data + filling * (NINE_MB // len(filling))
        # Filled with anything but blanks it is no JSON any more.
        field = bad.field if filling.isspace() else "message"
        yield BadMessage(bad.topic, data, bad.kind, field)


def check_all(
    store: Store, deliver: Callable[[Outgoing], StepReport], small: int, large: int
) -> Counter[str]:
    """Deliver bad messages with good ones in between; give how many of each class there were."""
    fleet = Fleet(random.Random(1), "good", 10, NOW)
    good = fleet.begin()
    while len(good) < small // 20:
        good += fleet.step()
    good = [message for message in good if message not in fleet.bad]
    waiting = iter(good)
    delivered: Counter[str] = Counter()
    let_in = set()
    for number, bad in enumerate(bad_ones(small, large)):
        message = Outgoing(bad.topic, bad.data, {"number": str(number)})
        report = deliver(message)
        delivered[bad.kind] += 1
        if bad.field is None and report.outcome in STORED:
            let_in.add(path_of(message))
            continue
        assert report.outcome is Outcome.QUARANTINED, bad
        kept = read_quarantined(store, quarantine_id(bad.topic, bad.data))
        assert kept is not None
        assert kept.data == bad.data
        named = [fault.field for fault in kept.document.errors]
        assert bad.field is None or bad.field in named, (bad.kind, bad.field, named)
        if number % 20 == 0 and (next_good := next(waiting, None)):
            deliver(next_good)
    for message in waiting:
        deliver(message)
    stored = {each.path for name in (STATES, EVENTS) for each in store.query(Query(name))}
    assert stored - let_in == {path_of(message) for message in good} - let_in
    return delivered


def test_five_thousand_on_the_local_engine() -> None:
    """Each is in quarantine to the byte, with the field named; what is good is stored.

    A share of the five thousand, and all in `make chaos`.
    """
    small, large = bad_messages()
    engine = LocalEngine(clock=lambda: NOW, fold_interval_seconds=0)
    delivered = check_all(engine.store, engine.publish, small, large)
    assert delivered.total() >= small + large
    assert delivered.keys() == set(KINDS)
    engine.settle()
    assert engine.store.read(GLOBAL_CONFIG) is not None
    engine.close()


def test_some_hundred_on_firestore(store: FirestoreStore) -> None:
    """The same on the emulator, each class among them."""
    pipeline = Pipeline(store)
    delivered = check_all(store, pipeline.send, max(ON_FIRESTORE, 3 * len(KINDS)), 3)
    assert delivered.keys() == set(KINDS)


@pytest.mark.parametrize("kind", ["no JSON", "bad"])
def test_the_totals_know_nothing_of_bad_messages(kind: str) -> None:
    """What is refused changes no counter."""
    engine = LocalEngine(clock=lambda: NOW, fold_interval_seconds=0)
    engine.publish(outgoing(event_message("e1")))
    data = b"{" if kind == "no JSON" else b'{"state": {}}'
    engine.publish(Outgoing("agent-state", data))
    engine.settle()
    stored = engine.store.read(GLOBAL_CONFIG)
    assert stored is not None
    assert found_totals(stored.data) == expected_totals([outgoing(event_message("e1"))])
    engine.close()
