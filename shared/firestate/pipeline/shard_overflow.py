"""What does not fit into its shard goes into another.

A shard has an entry for each session and for each word of users (agent types, error types) that
it has counted, and a document holds 1 MiB. A shard that cannot take a new entry is left as it is,
and the entry goes to the shard numbered eight higher, or eight higher still. Which of them has
what changes no sum: totals, audits and the roll-up read them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from firestate.errors import RefusedError
from firestate.limits import SHARDS

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_MOST_TRIES = 16


def shard_with_room(home: int, attempt: Callable[[int], T]) -> T:
    """Call `attempt` with the number of a shard, `home` first, until none of it is refused.

    Raises the RefusedError of `home` where no other shard helps: then it was not for the size.
    """
    try:
        return attempt(home)
    except RefusedError:
        for number in range(home + SHARDS, home + _MOST_TRIES * SHARDS, SHARDS):
            try:
                return attempt(number)
            except RefusedError:
                continue
        raise
