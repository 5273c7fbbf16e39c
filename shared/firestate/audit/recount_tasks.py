"""Reading an entry of a task history once more, by code of its own, for the recount."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from typing import Any

Doc = dict[str, Any]

_MOST_KEY_BYTES = 128


def task_name(entry: Doc) -> str:
    """Give the id that a task has, or a digest of its entry."""
    for field in ("task_id", "id"):
        if entry.get(field) is not None:
            text = str(entry[field]) if isinstance(entry[field], (str, int)) else ""
            if 1 <= len(text.encode()) <= _MOST_KEY_BYTES:
                return text
            break
    text = json.dumps(
        entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_zulu
    )
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _zulu(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")


def kind_of(entry: Doc) -> str:
    """Give the kind of a task as a key."""
    for field in ("kind", "task_type", "type"):
        if entry.get(field) is not None:
            return (isinstance(entry[field], str) and key_of(entry[field])) or "unspecified"
    return "unspecified"


def tools_of(entry: Doc) -> set[str]:
    """Give the tools of a task as keys."""
    given = entry["tools"] if entry.get("tools") is not None else entry.get("tool")
    words = given if isinstance(given, list) else [given]
    return {key_of(word) or "unspecified" for word in words if isinstance(word, str)}


def _moment(value: object) -> dt.datetime | None:
    if isinstance(value, str):
        try:
            value = dt.datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, dt.datetime):
        return None
    zoned = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
    try:
        return zoned.astimezone(dt.UTC)
    except OverflowError:
        return None


def ended_at(entry: Doc) -> dt.datetime | None:
    """Give when a task ended, if its entry says so."""
    for field in ("ended_at", "completed_at", "timestamp"):
        if entry.get(field) is not None:
            return _moment(entry[field])
    return None


def took_ms(entry: Doc) -> int | None:
    """Give how many milliseconds a task took, if its entry says so."""

    def number(value: object) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    if number(entry.get("duration_seconds")):
        seconds = entry["duration_seconds"]
    elif number(entry.get("duration_ms")):
        seconds = entry["duration_ms"] / 1000
    else:
        start, end = _moment(entry.get("started_at")), ended_at(entry)
        if start is None or end is None:
            return None
        seconds = (end - start).total_seconds()
    return round(seconds * 1000) if 0 <= seconds <= 10**9 else None


def key_of(text: str) -> str:
    """Give a user's word as a key that Firestore takes."""
    text = _shortened(text)
    return _shortened("~" + text) if re.fullmatch(r"__.*__", text, re.DOTALL) else text


def _shortened(text: str) -> str:
    while len(text.encode()) > _MOST_KEY_BYTES:
        text = text[:-1]
    return text
