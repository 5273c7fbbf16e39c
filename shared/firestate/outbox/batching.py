"""Which of the waiting messages go out now, and in which order.

For each agent, messages go in the order in which they were appended: one is published after those
before it are confirmed. In one request go messages of one topic, of many agents:

    agent a     e1  S2  e3          round 1:  events e1, e5   snapshots S4
    agent b     S4  e5              round 2:  snapshots S2    ...

A snapshot waits until a second after the last one of its session, and what its agent has appended
after it waits with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from firestate.outbox.entries import PendingEntry

Round = dict[str, list["PendingEntry"]]


class Batch(NamedTuple):
    """What goes now, and in how many seconds there is more to send; None: not before an append."""

    chosen: list[PendingEntry]
    again_in: float | None


def next_batch(
    waiting: Iterable[PendingEntry],
    sent_at: Mapping[str, float],
    now: float,
    *,
    interval_seconds: float,
    most_bytes: int,
) -> Batch:
    """Choose what goes now; `sent_at` says when the last snapshot of a session went."""
    chosen: list[PendingEntry] = []
    held: set[str] = set()
    again_in: float | None = None
    size = 0
    for each in waiting:
        if each.agent in held:
            continue
        left = sent_at.get(each.document, float("-inf")) + interval_seconds - now
        if each.is_snapshot and left > 0:
            held.add(each.agent)
            again_in = left if again_in is None else min(left, again_in)
        elif chosen and size + each.size > most_bytes:
            return Batch(chosen, 0.0)
        else:
            chosen.append(each)
            size += each.size
    return Batch(chosen, again_in)


def batches(chosen: Iterable[PendingEntry]) -> list[Round]:
    """Part what goes out into rounds; within one, a request a topic, in any order."""
    found: list[Round] = []
    at: dict[str, tuple[int, str]] = {}
    for each in chosen:
        number, topic = at.get(each.agent, (0, each.topic))
        if topic != each.topic:
            number += 1
        at[each.agent] = (number, each.topic)
        if number == len(found):
            found.append({})
        found[number].setdefault(each.topic, []).append(each)
    return found
