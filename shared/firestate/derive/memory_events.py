"""What an agent's coordination events add up to: the other part of its memory.

Events are only ever added, so this part needs no fold over all of them; only the undoing of a
migration takes some out again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from firestate.counters.event_counts import event_counts
from firestate.counters.labels import OTHER
from firestate.counters.sums import added, milliseconds, subtracted
from firestate.derive.label_groups import first_labels
from firestate.derive.newest_entries import Entry, newest
from firestate.limits import MAX_ACTIVITIES, MAX_DECISIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from firestate.counters.sums import Counts

_DECISIONS = ("spawn", "handoff")


@dataclass(frozen=True, slots=True)
class EventsPart:
    """Counts of the events that an agent was the source of, and the newest of them.

    `counts` has the form of a shard's; `first_at` and `last_at` bound the events' times.
    """

    counts: dict[str, Any] = field(default_factory=dict)
    decisions: list[Entry] = field(default_factory=list)
    recent: list[Entry] = field(default_factory=list)
    first_at: datetime | None = None
    last_at: datetime | None = None


def add_event(part: EventsPart, event: Mapping[str, Any]) -> EventsPart:
    """Give the part with `event` (its fields as stored) counted once more."""
    at = event["timestamp"]
    target = _target(event)
    common = {"id": event["event_id"], "at": at, **target}
    if session_id := event.get("session_id"):
        common["session_id"] = session_id
    decisions = part.decisions
    if event["event_type"] in _DECISIONS:
        decision = common | {
            "decision": event["event_type"],
            "outcome": _outcome(event),
            "duration_ms": _duration_ms(event),
        }
        decisions = newest([*decisions, decision], MAX_DECISIONS)
    activity = common | {"activity": event["event_type"], "success": event["success"]}
    if event.get("cancelled"):
        activity["cancelled"] = True
    return EventsPart(
        counts=_bounded(added(part.counts, event_counts(event))),
        decisions=decisions,
        recent=newest([*part.recent, activity], MAX_ACTIVITIES),
        first_at=at if part.first_at is None else min(at, part.first_at),
        last_at=at if part.last_at is None else max(at, part.last_at),
    )


def without_events(part: EventsPart, events: Sequence[Mapping[str, Any]]) -> EventsPart:
    """Give the part without `events`, which were counted in it.

    Sums are exact. What comes up in a window in place of those that go is not known here, nor which
    word leaves `other`, nor which event is now the first: a fold of all has to follow.
    """
    counts = part.counts
    for event in events:
        counts = _less(counts, event_counts(event))
    gone = {(event["event_id"], event["timestamp"]) for event in events}
    return replace(
        part,
        counts=counts,
        decisions=[each for each in part.decisions if (each["id"], each["at"]) not in gone],
        recent=[each for each in part.recent if (each["id"], each["at"]) not in gone],
    )


def _less(counts: Counts, change: Counts) -> Counts:
    """Take `change` away; a word that is not counted by itself was counted under `other`."""
    known = {
        group: {
            name: _under_known_words(each, counts.get(group, {}).get(name, {}))
            if _by_word(each)
            else each
            for name, each in members.items()
        }
        for group, members in change.items()
    }
    return subtracted(counts, known)


def _under_known_words(change: Counts, known: Counts) -> Counts:
    return {word if word in known else OTHER: amount for word, amount in change.items()}


def _bounded(counts: Counts) -> Counts:
    """Bound each group's counts by word: users have as many words as they like."""
    return {
        group: {
            name: first_labels(each).counts if _by_word(each) else each
            for name, each in members.items()
        }
        for group, members in counts.items()
    }


def _by_word(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(each, int) for each in value.values())


def _target(event: Mapping[str, Any]) -> dict[str, str]:
    parts = {
        "target_agent_type": event.get("target_agent_type"),
        "target_agent_id": event.get("target_agent_id"),
    }
    return {name: value for name, value in parts.items() if value is not None}


def _outcome(event: Mapping[str, Any]) -> str:
    if event.get("cancelled"):
        return "cancelled"
    return "completed" if event["success"] else "failed"


def _duration_ms(event: Mapping[str, Any]) -> int | None:
    seconds = event.get("duration_seconds")
    return None if seconds is None else milliseconds(seconds)
