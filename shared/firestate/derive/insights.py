"""What the sums mean: rates, means, the best and the worst."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firestate.derive.memory_rows import COUNTED, RowsPart

if TYPE_CHECKING:
    from collections.abc import Mapping

_DIGITS = 4


def rate_and_duration(counts: Mapping[str, int]) -> dict[str, float | None]:
    """Give success_rate (successes of tries, 0 to 1) and mean_duration_ms (of timed tries)."""
    tries, timed = counts.get("tries", 0), counts.get("timed", 0)
    return {
        "success_rate": round(counts.get("successes", 0) / tries, _DIGITS) if tries else None,
        "mean_duration_ms": round(counts.get("duration_ms", 0) / timed, _DIGITS) if timed else None,
    }


def performance_insights(rows: RowsPart) -> dict[str, Any]:
    """Give success and duration over all sessions, and what stands out.

    The latest session is set against the earlier ones; the best and the worst task kind go by
    success rate, then by tries.
    """
    kinds: Mapping[str, Mapping[str, int]] = rows.counts.get("kinds", {})
    overall = {name: sum(kind.get(name, 0) for kind in kinds.values()) for name in COUNTED}
    insights: dict[str, Any] = rate_and_duration(overall)
    if rows.latest is not None:
        latest = {name: rows.latest[name] for name in COUNTED}
        earlier = {name: overall[name] - latest[name] for name in COUNTED}
        insights["this_session"] = {
            "session_id": rows.latest["session_id"],
            "tries": latest["tries"],
            **rate_and_duration(latest),
        }
        insights["earlier_sessions"] = {"tries": earlier["tries"], **rate_and_duration(earlier)}
    tried = [name for name in kinds if kinds[name].get("tries", 0)]  # not only cancelled
    ranked = sorted(tried, key=lambda name: _rank(name, kinds[name]))
    insights["best_task_kind"] = ranked[0] if ranked else None
    insights["worst_task_kind"] = ranked[-1] if len(ranked) > 1 else None
    return insights


def _rank(name: str, counts: Mapping[str, int]) -> tuple[float, int, str]:
    tries = counts.get("tries", 0)
    rate = counts.get("successes", 0) / tries if tries else 0.0
    return (-rate, -tries, name)
