"""What an operator may write to the controls, field by field: valid, and refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.rules.access_matrix import CONTROLS, ROLES

if TYPE_CHECKING:
    from tests.rules.client import RulesClient

OTHER_TIME = "2026-01-01T00:00:00Z"
VALID: dict[str, dict[str, Any]] = {
    "nothing but the time": {},
    "a version": {"schema_version": 1},
    "no flags": {"feature_flags": {}},
    "flags": {"feature_flags": {"new planner": True, "old": False}},
    "no stop": {"emergency_stop": False},
    "a stop with a reason": {"emergency_stop": True, "emergency_reason": "fire"},
    "the longest reason": {"emergency_reason": "x" * 1_000},
    "no reason": {"emergency_reason": None},
    "settings of any kind": {"global_config": {"a": 1, "b": [1], "c": {"d": None}}},
    "all fields": {
        "schema_version": 1,
        "feature_flags": {"a": True},
        "emergency_stop": True,
        "emergency_reason": "fire",
        "global_config": {"a": 1},
    },
}

INVALID: dict[str, dict[str, Any]] = {
    "a version that is text": {"schema_version": "one"},
    "a version with a fraction": {"schema_version": 1.5},
    "no version": {"schema_version": None},
    "flags that are a list": {"feature_flags": [True]},
    "flags that are one": {"feature_flags": True},
    "a flag that is text": {"feature_flags": {"a": True, "b": "on"}},
    "a flag that is a number": {"feature_flags": {"a": 1}},
    "a flag without a value": {"feature_flags": {"a": None}},
    "a stop that is text": {"emergency_stop": "yes"},
    "a stop that is a number": {"emergency_stop": 1},
    "a stop without a value": {"emergency_stop": None},
    "a reason that is a number": {"emergency_reason": 7},
    "a reason that is a map": {"emergency_reason": {"text": "fire"}},
    "a reason that is a page": {"emergency_reason": "x" * 1_001},
    "settings that are a list": {"global_config": ["a"]},
    "settings that are text": {"global_config": "a"},
    "another field": {"total_agents_spawned": 0},
    "a field of a user": {"note": "hello"},
}


def try_controls(emulator: RulesClient) -> None:
    """Have an operator replace the controls by each of the above."""
    operator = emulator.somebody(ROLES["operator"])
    for fields in (*VALID.values(), *INVALID.values()):
        operator.update(CONTROLS, fields)
    operator.update(CONTROLS, {"last_updated": OTHER_TIME}, stamped=False)
