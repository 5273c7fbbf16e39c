"""What must hold at the end of any history."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from firestate.audit.message_outcomes import MessageOutcomes
from firestate.ingest.refusal import quarantine_id
from firestate.schema.ids import quarantine_path
from tests.chaos import repair
from tests.chaos.document_order import path_of, place_of
from tests.chaos.oracle import expected_totals, found_totals

if TYPE_CHECKING:
    from firestate.client.outgoing import Outgoing
    from tests.chaos.simulated_network import SimulatedNetwork


def check_history(world: SimulatedNetwork, steps: int) -> None:
    """Play one history to its end, and check the guarantees."""
    for _ in range(steps):
        world.step()
    world.settle()
    repair.to_this_release(world)
    if world.lost and steps % 2:
        repair.by_next(world)
    if world.lost or world.damaged:
        repair.by_repair(world)
    found = found_totals(world.totals())
    assert found == expected_totals(world.accepted.values())
    assert world.audit() == []
    check_fates(world)
    world.close()


def is_too_late(world: SimulatedNetwork, message: Outgoing) -> bool:
    """Whether its document has expired, or may have, for all that one can know."""
    body = json.loads(message.data)
    one = body.get("state") or body.get("deleted") or body["event"]
    at = one.get("last_updated") or one.get("deleted_at") or one["timestamp"]
    old = datetime.fromisoformat(at) < world.fleet.now - timedelta(days=30)
    return old or path_of(message) in world.removed


def check_fates(world: SimulatedNetwork) -> None:
    """Each message is stored, superseded, a duplicate, or in quarantine for a reason that is so."""
    sent = {(m.topic, m.data): m for m in world.fleet.sent}
    assert sent.keys() == world.accepted.keys() | world.refused.keys()
    for key, message in world.refused.items():
        kept = world.engine.store.read(quarantine_path(quarantine_id(*key)))
        assert kept is not None
        if message in world.fleet.bad:
            assert key not in world.accepted
        else:
            rival = place_of(message) in world.fleet.rivals
            assert rival or (kept.data["code"] == "too_late" and is_too_late(world, message))
    good = [message for message in sent.values() if message not in world.fleet.bad]
    there = [message for message in good if path_of(message) not in world.removed]
    assert MessageOutcomes(world.engine.store).count(there)["missing"] == 0
