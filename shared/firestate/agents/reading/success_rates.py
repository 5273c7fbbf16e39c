"""How well coordination goes: of events, by type, by pair of agent types, by hour. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping
    from datetime import datetime
    from typing import TypeVar

    from firestate.schema.models import CoordinationEvent

    K = TypeVar("K", bound=Hashable)

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class SuccessRate:
    """How many events there were, and how many of them succeeded.

    Those that were `cancelled` are not among them: they are neither tries nor failures.
    """

    total: int = 0
    succeeded: int = 0
    cancelled: int = 0

    @property
    def rate(self) -> float:
        """The share that succeeded, 0 to 1; 0 of none."""
        return self.succeeded / self.total if self.total else 0.0

    def __add__(self, other: SuccessRate) -> SuccessRate:
        """Add up."""
        return SuccessRate(
            self.total + other.total,
            self.succeeded + other.succeeded,
            self.cancelled + other.cancelled,
        )


@dataclass(frozen=True, slots=True)
class SuccessRates:
    """Success rates over all events, by type, by (source type, target type), by hour in UTC."""

    overall: SuccessRate = field(default_factory=SuccessRate)
    by_type: Mapping[str, SuccessRate] = field(default_factory=dict)
    by_pair: Mapping[Pair, SuccessRate] = field(default_factory=dict)
    by_hour: Mapping[datetime, SuccessRate] = field(default_factory=dict)


def success_rates_of(events: Iterable[CoordinationEvent]) -> SuccessRates:
    """Count events."""
    overall = SuccessRate()
    by_type: dict[str, SuccessRate] = {}
    by_pair: dict[Pair, SuccessRate] = {}
    by_hour: dict[datetime, SuccessRate] = {}
    for event in events:
        one = SuccessRate(1, int(event.success))
        if event.cancelled:
            one = SuccessRate(cancelled=1)
        overall += one
        _add(by_type, event.event_type.value, one)
        if event.target_agent_type is not None:
            _add(by_pair, (event.source_agent_type, event.target_agent_type), one)
        _add(by_hour, event.timestamp.replace(minute=0, second=0, microsecond=0), one)
    return SuccessRates(overall, by_type, by_pair, dict(sorted(by_hour.items())))


def _add(group: dict[K, SuccessRate], key: K, one: SuccessRate) -> None:
    group[key] = group.get(key, SuccessRate()) + one
