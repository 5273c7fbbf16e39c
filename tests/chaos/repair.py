"""How what was lost on the way, or changed by hand, is put right."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from firestate.audit.findings import FindingKind
from firestate.audit.repair import audit_and_repair
from firestate.operations.rederive import rederive
from tests.chaos.code_versions import this_release

if TYPE_CHECKING:
    from tests.chaos.simulated_network import SimulatedNetwork


def by_next(world: SimulatedNetwork) -> None:
    """Let each session send once more: the next state heals what was lost before it."""
    world.send(world.fleet.farewell())
    world.settle()
    world.lost.clear()


def by_repair(world: SimulatedNetwork) -> None:
    """Audit with repair: it finds what was lost, or changed by hand, and nothing else."""
    report = audit_and_repair(world.engine.store, world.roll_up(), timedelta(0))
    for finding in report.findings:
        if finding.kind is FindingKind.SHARDS:
            assert world.damaged, finding
        elif finding.kind is not FindingKind.GLOBAL:
            assert finding.kind is FindingKind.ROW, finding
            assert finding.field == "version", finding
            assert finding.path in world.lost, finding
    world.lost.clear()
    world.damaged = False
    world.settle()


def to_this_release(world: SimulatedNetwork) -> None:
    """Put today's release in place, and recount what others have counted."""
    this_release(world.patch)
    if world.counted_differently:
        list(rederive(world.engine.store))
        world.lost.clear()
        world.settle()
