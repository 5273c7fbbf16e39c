"""Times in a message that are yet to come: the clock that made them is wrong.

A time ahead would stay the newest for as long: the session shown as an agent's latest, a decision
at the head of its history. So every time that is read from a message is looked at: the fields of
states and events, and in the task history and the totals what they count by.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from firestate.errors import FieldProblem, InvalidMessageError
from firestate.limits import EARLIEST_ARRIVAL
from firestate.schema.values import SHOWN_KEY, time_text, utc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_IN_STATE = ("created_at", "last_updated", "last_active", "deleted_at", "timestamp")
_IN_PENDING = ("ended_at", "completed_at", "timestamp")
_IN_TASK = ("started_at", *_IN_PENDING)
_MOST_PROBLEMS = 20


def check_times(home: str, fields: Mapping[str, Any], now: datetime) -> None:
    """Raise InvalidMessageError, code `too_early`, for times more than a day ahead of `now`.

    `home` is what the message calls its body: `state`, `deleted` or `event`; `fields` are those of
    the body, as stored. Each time is named by its place.
    """
    problems = []
    for problem in _problems(home, fields, now):
        problems.append(problem)
        if len(problems) == _MOST_PROBLEMS:
            break
    if problems:
        raise InvalidMessageError("too_early", problems)


def history_problems(
    history: Iterable[Any], now: datetime, session_id: str | None, *, first: int = 0
) -> Iterator[FieldProblem]:
    """Yield a problem for each time of a task history that is more than a day ahead of `now`.

    Entries that another session has made count nothing here, and are not this one's to mend. A
    pending task may name the time at which it is to start. `first` is the place of the first entry
    in the whole history.
    """
    latest = now + EARLIEST_ARRIVAL
    # A date before today's is not ahead, whatever its zone. Dates compare as texts: that decides
    # for most entries, and spares a long history the parsing.
    today = now.date().isoformat()
    for index, entry in enumerate(history, first):
        if not isinstance(entry, dict) or entry.get("session_id") not in (None, session_id):
            continue
        for name in _IN_PENDING if entry.get("status") == "pending" else _IN_TASK:
            value = entry.get(name)
            if value is None or (isinstance(value, str) and _is_before(value, today)):
                continue
            if (time := time_in(value)) is not None and time > latest:
                yield FieldProblem(f"task_history[{index}].{name}", _reason(time))


def _is_before(text: str, day: str) -> bool:
    return "1" < text[:10] < day and text[5:6] != "W"  # a week is no month


def _problems(home: str, fields: Mapping[str, Any], now: datetime) -> Iterator[FieldProblem]:
    latest = now + EARLIEST_ARRIVAL
    for name in _IN_STATE:
        time = fields.get(name)
        if isinstance(time, datetime) and time > latest:
            yield FieldProblem(f"{home}.{name}", _reason(time))
    history, session_id = fields.get("task_history", ()), fields.get("session_id")
    for problem in history_problems(history, now, session_id):
        yield FieldProblem(f"{home}.{problem.field}", problem.reason)
    for group in ("kinds", "tools"):
        for label, one in (fields.get("task_totals") or {}).get(group, {}).items():
            time = time_in(one.get("last_seen"))
            if time is not None and time > latest:
                place = f"{home}.task_totals.{group}.{label[:SHOWN_KEY]}.last_seen"
                yield FieldProblem(place, _reason(time))


def move_times(fields: dict[str, Any], moved: Callable[[datetime], datetime | None]) -> bool:
    """Move the times that `check_times` looks at, of plain fields; return whether any has moved.

    `moved` returns where a time belongs, or None where it is.
    """
    session_id = fields.get("session_id")
    places = [(fields, name) for name in _IN_STATE]
    for entry in fields.get("task_history", ()):
        if isinstance(entry, dict) and entry.get("session_id") in (None, session_id):
            names = _IN_PENDING if entry.get("status") == "pending" else _IN_TASK
            places += [(entry, name) for name in names]
    for group in ("kinds", "tools"):
        listed = (fields.get("task_totals") or {}).get(group, {})
        places += [(one, "last_seen") for one in listed.values()]
    is_moved = False
    for holder, name in places:
        time = time_in(holder.get(name))
        if time is not None and (right := moved(time)) is not None:
            holder[name] = time_text(right)
            is_moved = True
    return is_moved


def time_in(value: object) -> datetime | None:
    """Return the time that a value is, or says in ISO 8601; None where it is none."""
    if isinstance(value, datetime):
        return utc(value)
    if isinstance(value, str):
        try:
            return utc(datetime.fromisoformat(value))
        except (ValueError, OverflowError):
            return None
    return None


def _reason(time: datetime) -> str:
    return f"is of {time:%Y-%m-%d}, which is yet to come"
