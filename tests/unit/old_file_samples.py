"""Old files as readers find them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from firestate.migration.formats.detection import open_json
from firestate.migration.formats.readers import agent_states, coordination_logs
from firestate.migration.formats.records import Facts, Record, Refusal

DATE = datetime(2025, 6, 1, tzinfo=UTC)
"""Of each file."""
NINE = datetime(2025, 1, 4, 9, tzinfo=UTC)
"""Of its last entry."""


def opened(value: Any, name: str = "x.json") -> tuple[str, list[Record | Refusal]]:
    """Give the format that a file is found to be, and what it holds."""
    found = open_json(json.dumps(value).encode(), name, DATE)
    return found.format, list(found.records())


def records_of(value: Any, name: str = "x.json") -> list[Record]:
    """Give what a file holds, of which nothing may be refused."""
    found = opened(value, name)[1]
    assert all(isinstance(each, Record) for each in found)
    return [each for each in found if isinstance(each, Record)]


def record_of(value: Any) -> Record:
    """Give the record of one old state or event."""
    reader = agent_states if agent_states.recognises(value, "x.json") else coordination_logs
    (record,) = reader.read(value, Facts("x.json", DATE))
    assert isinstance(record, Record)
    return record
