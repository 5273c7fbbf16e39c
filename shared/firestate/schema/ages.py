"""Ages that somebody names in days, such as of the sessions that are to be deleted."""

from __future__ import annotations

MOST_DAYS = 36_500
"""A hundred years: nothing that is stored is older."""


def age_problem(days: object) -> str | None:
    """Return why `days` is no age, or None if it is one."""
    is_number = isinstance(days, int | float) and not isinstance(days, bool)
    if is_number and 0 < days <= MOST_DAYS:  # type: ignore[operator] # a number; NaN is none
        return None
    return f"must be a number of days, more than 0 and at most {MOST_DAYS:,}: not {days!r:.40}"
