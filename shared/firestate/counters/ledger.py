"""The ledger: a row for each session of each agent, with what it last contributed.

Triggers come twice, late, out of order, or (once in a while) never. So nothing is ever counted
"for an event": a row remembers the contribution that is counted and its version; a later version
replaces it and adds the difference to a shard, row and shard and memory in one commit. Any other
version changes nothing. A lost event is healed by the next one, since each brings the whole
contribution.

    version stored in the row      1.5.3            1.5.7
    arriving                  ...  1.5.3 (again)    1.5.4 (late)      1.5.9
                                   nothing          nothing           replaces, adds 9 minus 7

A version is (generation, epoch, revision): the place in the order of states at which the
contribution last changed, and a number that each recount of the same state raises.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from firestate.counters.sums import Counts, subtracted
from firestate.limits import SHARDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from firestate.counters.contribution import Contribution, Version
    from firestate.schema.ids import Identity


def shard_of(text: str, shards: int = SHARDS) -> int:
    """Spread keys evenly over shards, the same in every process and release."""
    return zlib.crc32(text.encode()) % shards


def is_newer(row: Mapping[str, Any] | None, version: Version) -> bool:
    """Whether a contribution of `version` replaces the one in `row`.

    Strictly: an equal version is the same contribution again, and an earlier one has been
    replaced; a guard of "later or equal" would count redeliveries twice.
    """
    return row is None or _place(row["version"]) < _place(version)


def _place(version: Sequence[int]) -> tuple[int, int, int]:
    # The order decides, and the generation between contributions of one state. Not the other way
    # round: a session that comes back after its document has expired knows of no recount before.
    generation, epoch, revision = version
    return (epoch, revision, generation)


def new_row(
    row: Mapping[str, Any] | None,
    identity: Identity,
    version: Version,
    at: datetime,
    contribution: Contribution,
) -> dict[str, Any]:
    """Return the row after `contribution`. A row stays with the shard that it first counted in.

    `task_errors` of a row are those that it has added to the shards. They stand beside the
    contribution since releases up to 0.1 replace that, know nothing of these, and leave them as
    they are: so the row says what is counted whichever release has written it last.
    """
    errors = contribution.get("task_errors", {})
    counted = {"task_errors": errors} if errors or (row and row.get("task_errors")) else {}
    return counted | {
        "schema_version": 1,
        **identity._asdict(),
        "version": list(version),
        "counted_at": at,
        "shard": shard_of(identity.session_id) if row is None else row["shard"],
        "contribution": contribution,
    }


def difference(
    identity: Identity, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None
) -> Counts:
    """Return what the step from the row `old` to `new` adds to the counters; zeros are left out."""
    return subtracted(_counted(identity, new), _counted(identity, old))


def _counted(identity: Identity, row: Mapping[str, Any] | None) -> dict[str, Any]:
    if not row:
        return {}
    contribution = row["contribution"]
    current = contribution["current"]
    return {
        "spawned": contribution["spawned"],
        "current": current,
        "by_status": {contribution["status"]: current} if current else {},
        "by_type": {identity.agent_type: current},
        "tasks": contribution.get("tasks", {}),
        "errors": {"by_task_error_type": row.get("task_errors", {})},
        "sessions": {identity.session_id: {"agents": current}},
    }
