"""How often functions.yaml has the sweep called."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

_FUNCTIONS = Path(__file__).parents[2] / "functions" / "functions.yaml"
_MINUTES_A_DAY = 1_440


def sweeps_a_day() -> int:
    """Give the number of calls; raise ValueError for a schedule of another form."""
    endpoints = yaml.safe_load(_FUNCTIONS.read_text())["endpoints"]
    triggers = [each.get("scheduleTrigger") for each in endpoints.values()]
    (schedule,) = [trigger["schedule"] for trigger in triggers if trigger]
    if not (found := re.fullmatch(r"\*/(\d+) \* \* \* \*", schedule)):
        message = f"a schedule that this does not know: {schedule}"
        raise ValueError(message)
    return _MINUTES_A_DAY // int(found[1])
