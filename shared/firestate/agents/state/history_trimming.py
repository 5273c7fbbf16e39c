"""What a state carries of its past: a task history that is kept short, and totals of all.

A history of up to 200 entries, and so many bytes, counts by itself. One that would grow longer is
trimmed, and from then on the state carries `task_totals`, which are counted in its place: each task
that ended, once. A task that is open stays, however old it is: its kind, tool and start are wanted
when it ends.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic_core import to_json

from firestate.agents.state.encoded_state import Part
from firestate.agents.state.recorded_text import cut_text
from firestate.counters.task_history import ENDED, ended_task, ended_tasks
from firestate.counters.task_totals import with_tasks
from firestate.limits import MAX_HISTORY, MAX_NOTE_BYTES
from firestate.schema.models import TaskTotals

if TYPE_CHECKING:
    from collections.abc import Mapping

    Entry = Mapping[str, Any]

_OPEN = ("pending", "in_progress")
_COUNTED = frozenset(
    {
        *("task_id", "id", "status", "session_id", "error_type"),
        *("kind", "task_type", "type", "tool", "tools"),
        *("duration_seconds", "duration_ms"),
        *("started_at", "ended_at", "completed_at", "timestamp"),
    }
)
"""What a task counts by (counters/task_history); all else are notes."""
CUT = "notes_cut"
"""In an entry: some of its notes were cut, or are gone."""
_FIRESTORE_BYTES_A_CHARACTER = 8


class Former(NamedTuple):
    """What was saved before, of the same session."""

    history: list[Part]
    totals: Mapping[str, Any] | None


class Trimmed(NamedTuple):
    """What is to be saved: the history, and the totals if there are any."""

    history: list[Part]
    totals: dict[str, Any] | None


def is_short(history: list[Part], length: int, most_bytes: int) -> bool:
    """Whether a history of so many bytes of JSON surely is kept as it is, looked at quickly."""
    return len(history) <= MAX_HISTORY and length * _FIRESTORE_BYTES_A_CHARACTER <= most_bytes


def trimmed(
    history: list[Part],
    totals: dict[str, Any] | None,
    former: Former,
    session_id: str,
    *,
    most_bytes: int,
    given: bool = False,
    named: bool = True,
) -> Trimmed:
    """Return what is kept of a new `history`, and the totals that go with it.

    Where no totals are given, the history is taken for whole. Where they are those saved before,
    what has ended since is added. Others are the agent's own, and stay. `given`: the history is a
    list of the agent's own, and not the former one with an entry changed. Without `named`, names
    that the totals do not have yet are counted under `other`.
    """
    kept = fitted(history, former.history, session_id, most_bytes=most_bytes)
    if totals is None:
        if len(kept) < len(history):
            tasks = ended_tasks((part.plain for part in history), session_id)
            totals = with_tasks({}, tasks, named=named)
    elif history is not former.history and _are_the_same(totals, former.totals):
        new, old = [part.plain for part in history], [part.plain for part in former.history]
        if given:
            new = _since(new, old)
        new, old = _apart(new, old)
        if ended := Counter(ended_tasks(new, session_id)) - Counter(ended_tasks(old, session_id)):
            totals = with_tasks(totals, ended.elements(), named=named)
    return Trimmed(kept, totals)


def is_open(entry: Entry, session_id: str) -> bool:
    """Whether an entry is of a task that this session has begun and has yet to end."""
    return entry.get("status") in _OPEN and entry.get("session_id") in (None, session_id)


def _closed(history: list[Part], session_id: str) -> list[int]:
    """Return the places of the entries that may go, those first that go first.

    A task that a former session has begun may be ended by this one as well; but one that a crash
    has left open would stay for ever. So those go after all that have ended.
    """
    left = [n for n, part in enumerate(history) if not is_open(part.plain, session_id)]
    return sorted(left, key=lambda place: history[place].plain.get("status") in _OPEN)


def fitted(
    history: list[Part], former: list[Part], session_id: str, *, most_bytes: int
) -> list[Part]:
    """Return the entries of a history that are kept: 200, and so many bytes, as far as that goes.

    The oldest that have ended go first; where it is by bytes, their notes before them, and what is
    new last: that is cut. What is open stays, and the newest of all: by that an agent's own list is
    held against what was kept of it.
    """
    if len(history) > MAX_HISTORY:
        history = _without_oldest(history, len(history) - MAX_HISTORY, session_id)
    if is_short(history, sum([len(part.json) for part in history]), most_bytes):
        return history
    over = sum(part.extent.size for part in history) - most_bytes
    if over <= 0:
        return history
    known = set(map(id, former))
    kept: list[Part | None] = list(history)
    closed = _closed(history, session_id)
    old = [place for place in closed if id(history[place]) in known]
    new = [place for place in closed if id(history[place]) not in known]
    newest = len(history) - 1
    for places, shorter in (
        (old, _without_notes),
        ([place for place in old if place != newest], _nothing),
        (new, _with_short_notes),
        (new, _without_notes),
    ):
        for place in places:
            if over <= 0:
                break
            part = kept[place]
            if part is not None and (left := shorter(part)) is not part:
                over -= part.extent.size - (0 if left is None else left.extent.size)
                kept[place] = left
    return [part for part in kept if part is not None]


def _without_oldest(history: list[Part], number: int, session_id: str) -> list[Part]:
    gone: set[int] = set()
    for place, part in enumerate(history[:-1]):  # the newest stays
        if len(gone) == number:
            break
        if part.plain.get("status") not in _OPEN:
            gone.add(place)
    if len(gone) < number:
        gone = set(_closed(history[:-1], session_id)[:number])
    return [part for place, part in enumerate(history) if place not in gone]


def _nothing(_: Part) -> None:
    return None


def _without_notes(part: Part) -> Part:
    """Return an entry with what it counts by alone; as it is where it has no id to be known by."""
    entry = part.plain
    notes = entry.keys() - _COUNTED - {CUT}
    if not notes or not isinstance(entry.get("task_id", entry.get("id")), str | int):
        return part
    return _entry({key: entry[key] for key in entry if key in _COUNTED} | {CUT: True})


def _with_short_notes(part: Part) -> Part:
    """Return an entry whose long notes are cut texts."""
    entry = dict(part.plain)
    for key in entry.keys() - _COUNTED - {CUT}:
        text = entry[key] if isinstance(entry[key], str) else to_json(entry[key]).decode()
        if len(text) * 4 > MAX_NOTE_BYTES and len(text.encode()) > MAX_NOTE_BYTES:
            entry |= {key: cut_text(text), CUT: True}
    return _entry(entry) if entry != part.plain else part


def _entry(entry: dict[str, Any]) -> Part:
    return Part(to_json(entry), entry)


def _are_the_same(totals: Mapping[str, Any], former: Mapping[str, Any] | None) -> bool:
    """Whether totals are equal, also where one of them leaves out what is so by default."""
    if former is None or totals == former:
        return former is not None
    return TaskTotals.model_validate(totals) == TaskTotals.model_validate(former)


def _apart(new: list[Any], old: list[Any]) -> tuple[list[Any], list[Any]]:
    """Leave out the entries that are the very same objects in both, most of the time nearly all."""
    shared = {id(entry) for entry in new} & {id(entry) for entry in old}
    return ([e for e in new if id(e) not in shared], [e for e in old if id(e) not in shared])


def _since(history: list[Any], former: list[Any]) -> list[Any]:
    """Return a history without the entries that are older than what was kept of it, `former`.

    An agent's own list may be whole, and grow, while of what was saved the oldest have gone: they
    are counted already. What was kept is the list's end; before that, entries that were open when
    others were let go.
    """
    for first in range(len(former)):
        for place in range(len(history) - len(former) + first + 1):
            if all(map(_is_the_task, history[place:], former[first:])):
                early = former[:first]
                found = [e for e in history[:place] if any(_is_the_task(e, each) for each in early)]
                if len(found) == len(early):
                    return [*found, *history[place:]]
    return history


def _is_the_task(entry: Any, other: Any) -> bool:  # noqa: ANN401 - the user's own
    """Whether an entry is what was kept, or what has become of it since."""
    if entry is other or entry == other:
        return True
    if not (isinstance(entry, dict) and isinstance(other, dict)):
        return False
    if other.get(CUT):
        session_id = str(other.get("session_id"))
        return ended_task(entry, session_id) == ended_task(other, session_id)
    # Programs use ids again: when it was begun tells one from another.
    told = [
        (each.get("task_id", each.get("id")), each.get("started_at")) for each in (entry, other)
    ]
    return other.get("status") not in ENDED and told[0][0] is not None and told[0] == told[1]
