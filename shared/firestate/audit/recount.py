"""Counting once more, from the documents, by code of its own.

Nothing here comes from `counters` or `derive`: what is wrong there must not be wrong here in the
same way. It is slow and plain on purpose, a list of everything and then loops over it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firestate.audit.recount_tasks import ended_at, key_of, kind_of, task_name, took_ms, tools_of

if TYPE_CHECKING:
    import datetime as dt

Doc = dict[str, Any]
Flat = dict[tuple[str, ...], int]
"""Figures by the path at which a shard has them."""

OUTCOMES = ("completed", "failed", "cancelled")
FIGURES = ("tries", "successes", "cancelled", "timed", "duration_ms")
_MOST_KEYS = 64
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
    totals = _totals_of(state)
    kinds: dict[str, Doc] = {}
    tools: dict[str, Doc] = {}
    if totals is not None:
        for target, given in ((kinds, totals.get("kinds", {})), (tools, totals.get("tools", {}))):
            for name, one in given.items():
                figures = [
                    one["tries"],
                    one["successes"],
                    one.get("cancelled", 0),
                    one["tries"] if one.get("timed") is None else one["timed"],
                    one.get("duration_ms", 0),
                ]
                if any(figures):
                    tally(target, key_of(name) or "unspecified", figures, one.get("last_seen"))
    else:
        for entry in ended:
            took = took_ms(entry)
            figures = [
                1,
                1 if entry["status"] == "completed" else 0,
                0,
                0 if took is None else 1,
                took or 0,
            ]
            if entry["status"] == "cancelled":
                figures = [0, 0, 1, 0, 0]
            seen = ended_at(entry) or state["created_at"]
            tally(kinds, kind_of(entry), figures, seen)
            for tool in tools_of(entry):
                tally(tools, tool, figures, seen)
    successes = sum(kind["successes"] for kind in kinds.values())
    cancelled = sum(kind["cancelled"] for kind in kinds.values())
    tries = sum(kind["tries"] for kind in kinds.values())
    worth["tasks"] = {
        "completed": successes,
        "failed": tries - successes,
        "cancelled": cancelled,
    }
    if errors := _recount_errors(ended, totals):
        worth["task_errors"] = _heaviest(errors)
    worth["kinds"], worth["tools"] = _heaviest(kinds), _heaviest(tools)
    return worth


def recount_event(event: Doc) -> Flat:
    """Give what one event is worth: coordination and errors as flat figures by path."""
    took = round((event.get("duration_seconds") or 0) * 1000)
    good = 1 if event["success"] else 0
    kind = event["event_type"]
    if event.get("cancelled"):
        return {
            ("coordination", "cancelled"): 1,
            ("coordination", "by_type", kind, "cancelled"): 1,
        }
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
            worth["errors", "by_error_type", key_of(error_type)] = 1
    return worth


def _totals_of(state: Doc) -> Doc | None:
    """Return the totals of a state; in version 1 the cancelled were among the tries."""
    totals: Doc | None = state.get("task_totals")
    if totals is None or state.get("schema_version", 1) != 1:
        return totals
    return totals | {
        group: {
            name: one
            | {
                "tries": one["tries"] - one.get("cancelled", 0),
                "timed": one["timed"] if one.get("timed") is not None else one["tries"],
            }
            for name, one in totals.get(group, {}).items()
        }
        for group in ("kinds", "tools")
    }


def _recount_errors(ended: list[Doc], totals: Doc | None) -> dict[str, int]:
    found: dict[str, int] = {}
    if totals is not None:
        for word, count in totals.get("errors", {}).items():
            if count:
                name = key_of(word) or "unspecified"
                found[name] = found.get(name, 0) + count
        return found
    for entry in ended:
        word = entry.get("error_type")
        if entry["status"] == "failed" and isinstance(word, str) and word:
            found[key_of(word)] = found.get(key_of(word), 0) + 1
    return found


def recount_row(
    agent_type: str, session_id: str, worth: Doc, task_errors: dict[str, int] | None = None
) -> Flat:
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
    for word, count in (task_errors or {}).items():
        flat["errors", "by_task_error_type", word] = count
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
                name = key_of(kind) or "unspecified"
                types[name] = types.get(name, 0) + 1
            if bucket := _bucket(entry.get("importance")):
                importance[bucket] = importance.get(bucket, 0) + 1
        count += 1
    return {"count": count, "types": _heaviest(types), "importance": _heaviest(importance)}


def _bucket(weight: object) -> str:
    if isinstance(weight, str):
        return key_of(weight)
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
        name = task_name(entry)
        seen[name] = seen.get(name, 0) + 1
        decisions.append(
            {
                "id": name,
                "attempt": seen[name],
                "at": ended_at(entry) or created_at,
                "kind": kind_of(entry),
                "outcome": entry["status"],
                "duration_ms": took_ms(entry),
            }
        )
    return newest_of(decisions, _NEWEST_DECISIONS)


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
        heaviness: int = value["tries"] + value["cancelled"] if isinstance(value, dict) else value
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
    """Give the newest entries, newest first; those of one time by all that tells them apart."""

    def order(entry: Doc) -> list[Any]:
        words = [entry.get(name) or "" for name in ("session_id", "id")]
        kind = entry.get("decision", entry.get("activity", ""))
        return [entry["at"], *words, entry.get("attempt", 0), kind]

    return sorted(entries, key=order)[::-1][:most]
