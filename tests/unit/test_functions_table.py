"""The table of what is deployed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from firestate.schema.messages import (
    EVENT_DEAD_LETTER_TOPIC,
    EVENT_TOPIC,
    STATE_DEAD_LETTER_TOPIC,
    STATE_TOPIC,
)

FUNCTIONS = Path(__file__).parents[2] / "functions"
ENDPOINTS: dict[str, dict[str, Any]] = yaml.safe_load((FUNCTIONS / "functions.yaml").read_text())[
    "endpoints"
]


def test_the_table_and_the_code_agree() -> None:
    """Each endpoint names a function of main.py, and is retried; the one over HTTP is private."""
    source = (FUNCTIONS / "main.py").read_text()
    triggers = {name: each.get("eventTrigger", {}) for name, each in ENDPOINTS.items()}
    topics = {name: each.get("eventFilters", {}).get("topic") for name, each in triggers.items()}
    assert {name: topic for name, topic in topics.items() if topic} == {
        "ingest_state": STATE_TOPIC,
        "ingest_event": EVENT_TOPIC,
        "dead_letter_states": STATE_DEAD_LETTER_TOPIC,
        "dead_letter_events": EVENT_DEAD_LETTER_TOPIC,
    }
    for name, endpoint in ENDPOINTS.items():
        assert f"def {endpoint['entryPoint']}(" in source, name
        if name == "migrate_json_state":
            assert endpoint["httpsTrigger"] == {"invoker": ["private"]}
        elif name != "sweep":
            assert endpoint["eventTrigger"]["retry"] is True, name
        assert {
            "availableMemoryMb",
            "cpu",
            "concurrency",
            "timeoutSeconds",
            "minInstances",
            "maxInstances",
        } <= endpoint.keys(), name
