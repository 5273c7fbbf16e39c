"""Counting once more, from the documents, by code of its own.

Nothing here comes from `counters` or `derive`: what is wrong there must not be wrong here in the
same way. It is slow and plain on purpose, a list of everything and then loops over it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from typing import Any

Doc = dict[str, Any]
Flat = dict[tuple[str, ...], int]
"""Figures by the path at which a shard has them."""

OUTCOMES = ("completed", "failed", "cancelled")
FIGURES = ("tries", "successes", "cancelled", "timed", "duration_ms")
_MOST_KEYS = 64
_MOST_KEY_BYTES = 128
_NEWEST_DECISIONS = 100


def recount_state(state: Doc) -> Doc:
    """Give what a stored state (or tombstone) is worth, in the form of a row's contribution."""
    if state.get("deleted") is True:
        return {"spawned": 1, "current": 0, "tasks": {"completed": 0, "failed": 0, "cancelled": 0}}
    own = state["session_id"]
    ended = [
        entry
        for entry in state["task_history"]
        if entry.get("status") in OUTCOMES and entry.get("session_id", own) in (own, None)
    ]
    worth: Doc = {
        "spawned": 1,
        "current": 0 if state["status"] == "terminated" else 1,
        "status": state["status"],
        "created_at": state["created_at"],
        "memory": _recount_memory(state["memory_context"], own),
        "decisions": _recount_decisions(ended, state["created_at"]),
    }
    totals = state.get("task_totals")
    kinds: dict[str, Doc] = {}
    tools: dict[str, Doc] = {}
    if totals is not None:
        for target, given in ((kinds, totals.get("kinds", {})), (tools, totals.get("tools", {}))):
            for name, one in given.items():
                figures = [
                    one["tries"],
                    one["successes"],
                    one.get("cancelled", 0),
                    one.get("timed", one["tries"]),
                    one.get("duration_ms", 0),
                ]
                if any(figures):
                    tally(target, _key(name) or "unspecified", figures, one.get("last_seen"))
    else:
        for entry in ended:
            took = _took_ms(entry)
            figures = [
                1,
                1 if entry["status"] == "completed" else 0,
                1 if entry["status"] == "cancelled" else 0,
                0 if took is None else 1,
                took or 0,
            ]
            seen = _ended_at(entry) or state["created_at"]
            tally(kinds, _kind(entry), figures, seen)
            for tool in _tools(entry):
                tally(tools, tool, figures, seen)
    successes = sum(kind["successes"] for kind in kinds.values())
    cancelled = sum(kind["cancelled"] for kind in kinds.values())
    tries = sum(kind["tries"] for kind in kinds.values())
    worth["tasks"] = {
        "completed": successes,
        "failed": tries - successes - cancelled,
        "cancelled": cancelled,
    }
    worth["kinds"], worth["tools"] = _heaviest(kinds), _heaviest(tools)
    return worth


def recount_event(event: Doc) -> Flat:
    """Give what one event is worth: coordination and errors as flat figures by path."""
    took = round((event.get("duration_seconds") or 0) * 1000)
    good = 1 if event["success"] else 0
    kind = event["event_type"]
    worth: Flat = {
        ("coordination", "total"): 1,
        ("coordination", "succeeded"): good,
        ("coordination", "duration_ms"): took,
        ("coordination", "by_type", kind, "total"): 1,
        ("coordination", "by_type", kind, "succeeded"): good,
        ("coordination", "by_type", kind, "duration_ms"): took,
    }
    if kind == "error" or not good:
        worth["errors", "by_event_type", kind] = 1
        error_type = event["context"].get("error_type")
        if isinstance(error_type, str) and error_type:
            worth["errors", "by_error_type", _key(error_type)] = 1
    return worth


def recount_row(agent_type: str, session_id: str, worth: Doc) -> Flat:
    """Give what one row adds to the shards, as flat figures."""
    current = worth["current"]
    flat: Flat = {
        ("spawned",): worth["spawned"],
        ("current",): current,
        ("by_type", agent_type): current,
        ("sessions", session_id, "agents"): current,
    }
    if current:
        flat["by_status", worth["status"]] = current
    for outcome in OUTCOMES:
        flat["tasks", outcome] = worth.get("tasks", {}).get(outcome, 0)
    return flat


def _recount_memory(context: Doc, own: str) -> Doc:
    count = 0
    types: dict[str, int] = {}
    importance: dict[str, int] = {}
    for entry in context.values():
        if isinstance(entry, dict):
            if entry.get("session_id") not in (None, own):
                continue
            kind = entry["type"] if "type" in entry else entry.get("memory_type")
            if isinstance(kind, str):
                name = _key(kind) or "unspecified"
                types[name] = types.get(name, 0) + 1
            if bucket := _bucket(entry.get("importance")):
                importance[bucket] = importance.get(bucket, 0) + 1
        count += 1
    return {"count": count, "types": _heaviest(types), "importance": _heaviest(importance)}


def _bucket(weight: object) -> str:
    if isinstance(weight, str):
        return _key(weight)
    if isinstance(weight, bool) or not isinstance(weight, (int, float)):
        return ""
    if 0 <= weight <= 1:
        tenths = int(weight * 10)
        return f"{tenths // 10}.{tenths % 10}"
    return str(int(weight // 1)) if -1000 <= weight <= 1000 else "other"  # noqa: PLR2004 - a limit of its own


def _recount_decisions(ended: list[Doc], created_at: dt.datetime) -> list[Doc]:
    seen: dict[str, int] = {}
    decisions = []
    for entry in ended:
        name = _task_name(entry)
        seen[name] = seen.get(name, 0) + 1
        decisions.append(
            {
                "id": name if seen[name] == 1 else f"{name}#{seen[name]}",
                "at": _ended_at(entry) or created_at,
                "kind": _kind(entry),
                "outcome": entry["status"],
                "duration_ms": _took_ms(entry),
            }
        )
    return newest_of(decisions, _NEWEST_DECISIONS)


def _task_name(entry: Doc) -> str:
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


def _kind(entry: Doc) -> str:
    for field in ("kind", "task_type", "type"):
        if entry.get(field) is not None:
            return (isinstance(entry[field], str) and _key(entry[field])) or "unspecified"
    return "unspecified"


def _tools(entry: Doc) -> set[str]:
    given = entry["tools"] if entry.get("tools") is not None else entry.get("tool")
    words = given if isinstance(given, list) else [given]
    return {_key(word) or "unspecified" for word in words if isinstance(word, str)}


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


def _ended_at(entry: Doc) -> dt.datetime | None:
    for field in ("ended_at", "completed_at", "timestamp"):
        if entry.get(field) is not None:
            return _moment(entry[field])
    return None


def _took_ms(entry: Doc) -> int | None:
    def number(value: object) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    if number(entry.get("duration_seconds")):
        seconds = entry["duration_seconds"]
    elif number(entry.get("duration_ms")):
        seconds = entry["duration_ms"] / 1000
    else:
        start, end = _moment(entry.get("started_at")), _ended_at(entry)
        if start is None or end is None:
            return None
        seconds = (end - start).total_seconds()
    return round(seconds * 1000) if 0 <= seconds <= 10**9 else None


def _key(text: str) -> str:
    text = _shortened(text)
    return _shortened("~" + text) if re.fullmatch(r"__.*__", text, re.DOTALL) else text


def _shortened(text: str) -> str:
    while len(text.encode()) > _MOST_KEY_BYTES:
        text = text[:-1]
    return text


def tally(target: dict[str, Doc], name: str, figures: list[int], seen: dt.datetime | None) -> None:
    """Add FIGURES, in their order, to the entry `name`, and keep the later time."""
    entry = target.setdefault(name, dict.fromkeys(FIGURES, 0) | {"last_seen": None})
    for figure, amount in zip(FIGURES, figures, strict=True):
        entry[figure] += amount
    if seen is not None and (entry["last_seen"] is None or seen > entry["last_seen"]):
        entry["last_seen"] = seen


def _heaviest(counts: dict[str, Any]) -> dict[str, Any]:
    if len(counts) <= _MOST_KEYS:
        return counts

    def weight(name: str) -> int:
        value = counts[name]
        heaviness: int = value["tries"] if isinstance(value, dict) else value
        return heaviness

    order = sorted(counts, key=lambda name: (-weight(name), name))[: _MOST_KEYS - 1]
    kept = {name: counts[name] for name in order if name != "other"}
    rest = [value for name, value in counts.items() if name not in kept]
    if not isinstance(rest[0], dict):
        return {**kept, "other": sum(rest)}
    other: dict[str, Doc] = {}
    for value in rest:
        tally(other, "other", [value[figure] for figure in FIGURES], value["last_seen"])
    return {**kept, **other}


def newest_of(entries: list[Doc], most: int) -> list[Doc]:
    """Give the newest entries, newest first; those of one time by session and id."""

    def order(entry: Doc) -> tuple[Any, str, str]:
        return (entry["at"], entry.get("session_id") or "", entry.get("id") or "")

    return sorted(entries, key=order)[::-1][:most]
