"""What a state says of those that had its session before: read by ingest, written by agents.

A holder that takes a session from another folder notes in the collaboration context which state of
the former one it has taken along:

    taken_along: {"<epoch of the former>": {"revision": 17, ...}, ...}

What the former holder has saved after that, and what comes of it later, is not in the holder's
state yet: ingest keeps it at `agent_states/{id}/late/{epoch}` until the holder has merged it, which
it notes by a higher revision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firestate.limits import INT64_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

TAKEN_ALONG = "taken_along"
TAKEN_BY = "taken_by"
"""The writer that has noted that: one of an earlier release copies the notes of another."""
RESUMED_AS = "resumed_as"
"""Of an ended session: the session in which the agent goes on."""
ENDED_WITH = "ended_with"
"""Of an ended session: the former holder whose state it is, with nothing added (`ended_with`)."""
ADOPTS = "adopts"
"""Of a message that takes a session on condition that it is stored as `<epoch>.<revision>`."""
MERGED_APART = "merged_apart"
"""Names of what processes of the writer have saved apart, and is merged: the newest of them."""
OF_FIRESTATE = frozenset(
    {
        TAKEN_ALONG,
        TAKEN_BY,
        RESUMED_AS,
        ENDED_WITH,
        ADOPTS,
        MERGED_APART,
        "resumed_from",
        "resume_pending",
    }
)
"""The keys of the collaboration context that are Firestate's own."""
MOST_FORMERS = 8
"""Former holders that a state remembers: an older one has long since told all that it had."""

_MOST_DIGITS = 19


def taken_along(context: Mapping[str, Any]) -> dict[int, int]:
    """Return the revision that was taken along of each former epoch.

    What does not have the form is left out: the context is a map of the user's.
    """
    found = context.get(TAKEN_ALONG)
    result = {}
    for epoch, base in found.items() if isinstance(found, dict) else ():
        revision = base.get("revision") if isinstance(base, dict) else None
        is_number = isinstance(epoch, str) and epoch.isdecimal() and len(epoch) <= _MOST_DIGITS
        if not is_number or int(epoch) > INT64_MAX:
            continue
        if isinstance(revision, int) and 0 <= revision <= INT64_MAX:
            result[int(epoch)] = revision
    return result


def note_of_end(epoch: int, order: tuple[int, int]) -> dict[str, str]:
    """Return the note by which a state at `order` is that of the former holder of `epoch`.

    It names the order: whatever is saved later, and copies the note, is more than that.
    """
    return {"epoch": str(epoch), "order": "{}.{}".format(*order)}


def ended_with(context: Mapping[str, Any], order: tuple[int, int]) -> int | None:
    """Return the epoch of the former holder whose state, as it was, stands at `order`.

    None where it is the writer's own.
    """
    note = context.get(ENDED_WITH)
    return next((each for each in taken_along(context) if note == note_of_end(each, order)), None)


def may_be_late(epoch: int, revision: int, along: Mapping[int, int]) -> bool:
    """Whether a former holder's state is later than what was taken along of it.

    One of an epoch that is not known has taken the session at the same time as its holder; older
    ones than those that are remembered have nothing to say.
    """
    if epoch in along:
        return revision > along[epoch]
    return bool(along) and epoch > min(along)
