"""Configuration of a whole system: flags, an emergency stop, settings. Becomes the controls.

The files are merged in the order of `ORDER`, a later one over an earlier one, all of them below
what operators have set. Counters are not taken over: they are counted anew from what is migrated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firestate.limits import MAX_REASON
from firestate.migration.formats.records import Draft, Facts, Record, RecordKind, Refusal
from firestate.migration.formats.synonyms import parse_time
from firestate.schema.ids import CONTROLS
from firestate.schema.values import digest

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "system-config"

ORDER = ("config.json", "system_config.json", "app_config.json", "settings.json")

COUNTERS = (
    "active_sessions",
    "total_agents_spawned",
    "current_agent_count",
    "system_metrics",
    "error_counts",
)
_SURE = ("feature_flags", "emergency_stop", "global_config", *COUNTERS)
_LIKELY = (
    "system_version",
    "max_agents",
    "max_concurrent_agents",
    "agent_timeout",
    "agents_enabled",
    "default_agent_type",
)


def recognises(value: Any, name: str) -> bool:  # noqa: ANN401 - any JSON
    """One of the words of a system's state; or, in a file named as configuration, a likely one."""
    if not isinstance(value, dict) or "agents" in value or "events" in value:
        return False
    if any(word in value for word in ("agent_id", "event_type", "session_id")):
        return False
    if any(word in value for word in _SURE):
        return True
    return name.lower() in ORDER and any(word in value for word in _LIKELY)


def read(value: Any, facts: Facts) -> Iterator[Record | Refusal]:  # noqa: ANN401 - any JSON
    """Give one record: what of the file goes into the controls."""
    draft = Draft.of("", value)
    flags = draft.left.pop("feature_flags", None)
    if isinstance(flags, dict):
        draft.fields["feature_flags"] = {k: v for k, v in flags.items() if isinstance(v, bool)}
        if others := {k: v for k, v in flags.items() if not isinstance(v, bool)}:
            draft.left["feature_flags"] = others  # a setting by that name, no switch
    elif flags is not None:
        draft.left["feature_flags"] = flags
    _emergency(draft)
    for name in COUNTERS:
        if draft.left.pop(name, None) is not None:
            draft.mapped.append(f"{name}: not taken over, it is counted anew")
    draft.left.pop("schema_version", None)
    config = draft.left.pop("global_config", None)
    settings = dict(config) if isinstance(config, dict) else {}
    if config is not None and not isinstance(config, dict):
        settings["global_config"] = config
    if draft.left.get("last_updated") is not None and parse_time(draft.left["last_updated"]):
        draft.mapped.append("last_updated: is set by each write")
    # All else is a setting; those under `global_config` go before others of the same name.
    draft.fields["global_config"] = draft.left | settings
    draft.left = {}
    draft.fields["order"] = ORDER.index(facts.name.lower()) if facts.name.lower() in ORDER else -1
    yield draft.record(RecordKind.CONTROLS, value)


def controls_record(controls: dict[str, Any]) -> Record:
    """Give the record of controls that Firestate itself has stored."""
    names = ("feature_flags", "global_config", "emergency_stop", "emergency_reason")
    fields = {name: controls[name] for name in names if controls.get(name)}
    return Record(RecordKind.CONTROLS, CONTROLS, fields | {"order": -1}, {}, (), (), digest(fields))


def _emergency(draft: Draft) -> None:
    stop = draft.left.get("emergency_stop")
    reason = draft.left.get("emergency_reason")
    if not isinstance(stop, bool):
        return
    draft.left.pop("emergency_stop")
    if not stop:
        return
    draft.fields["emergency_stop"] = True
    if isinstance(reason, str) and 0 < len(reason) <= MAX_REASON:
        draft.fields["emergency_reason"] = draft.left.pop("emergency_reason")
    else:
        draft.fields["emergency_reason"] = "set in the old configuration"
        draft.guessed.append("emergency_reason")
