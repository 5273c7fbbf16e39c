"""Old configuration into the controls, below what operators have set, and out again.

What is there already stays, flag by flag and setting by setting. What was put in is noted before
it is: so that an undo takes out that, where it is still as it was put in, and nothing else.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from firestate.errors import DamagedDocumentError, RefusedError
from firestate.limits import FULL_STATE_BYTES
from firestate.migration.workdir import load_json, save_json
from firestate.operations.operator_controls import change_controls
from firestate.schema.ids import CONTROLS, LEGACY
from firestate.schema.values import problems_of, stored_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from firestate.migration.formats.records import Record
    from firestate.migration.workdir import Workdir
    from firestate.stores.protocol import Store

    Settings = dict[str, Any]

NOTE = "controls.json"
_MAPS = ("feature_flags", "global_config")


def with_old_controls(records: Iterable[Record]) -> Settings:
    """Merge what the files say, a later one over an earlier one, key by key.

    Raises RefusedError where it does not fit into the document of the controls.
    """
    settings: Settings = {name: {} for name in _MAPS}
    unfit: Settings = {}
    for record in records:
        for name in _MAPS:
            for key, value in record.fields.get(name, {}).items():
                if next(iter(problems_of({key: value}, "", 1)), None):
                    unfit[f"{name}.{key}"] = value
                else:
                    settings[name][key] = value
        for name in ("emergency_stop", "emergency_reason"):
            if name in record.fields:
                settings[name] = record.fields[name]
    if unfit:
        settings["global_config"][LEGACY] = {"unfit": json.dumps(unfit, sort_keys=True)}
    if (size := stored_size(settings)) > FULL_STATE_BYTES:
        message = f"the configuration takes {size:,} bytes, at most {FULL_STATE_BYTES:,} fit"
        raise RefusedError(message)
    return settings


def merge_controls(
    store: Store,
    records: Iterable[Record],
    work: Workdir,
    scope: str,
    *,
    now: Callable[[], datetime],
) -> bool:
    """Put into the controls what they lack; tell whether there was anything."""
    settings = with_old_controls(records)
    # Read once: what a try has noted, that was then refused, is not to stay.
    before = put_in_by(work, scope) or {}

    def change(controls: Mapping[str, Any]) -> Settings | None:
        added = _lacking(controls, settings)
        save_json(work, NOTE, {"plan": scope, "set": _joined(before, added)})
        return _joined(dict(controls), added) if added else None

    return change_controls(store, change, now=now)


def put_in_by(work: Workdir, scope: str) -> Settings | None:
    """Give what was put in by a plan on a target, as it was noted."""
    note = load_json(work, NOTE)
    put_in = note.get("set") if note.get("plan") == scope else None
    return put_in if isinstance(put_in, dict) and put_in else None


def forget(work: Workdir) -> None:
    """Forget what was put in: it was taken out."""
    if load_json(work, NOTE):
        save_json(work, NOTE, {})


def take_out(store: Store, put_in: Settings, *, now: Callable[[], datetime]) -> bool:
    """Take out of the controls what was put in, where it is still so; tell whether any was."""

    def change(controls: Mapping[str, Any]) -> Settings | None:
        rest = dict(controls)
        for name in _MAPS:
            ours = put_in.get(name, {})
            found = controls.get(name)
            if ours and isinstance(found, dict):
                kept = {k: v for k, v in found.items() if k not in ours or ours[k] != v}
                rest[name] = kept
        stopped_by_us = put_in.get("emergency_stop") and controls.get("emergency_stop") is True
        if stopped_by_us and controls.get("emergency_reason") == put_in.get("emergency_reason"):
            rest |= {"emergency_stop": False, "emergency_reason": None}
        return None if rest == dict(controls) else rest

    return change_controls(store, change, now=now)


def missing(controls: Mapping[str, Any], settings: Settings) -> list[str]:
    """Name what should be there of `settings`, and is not: by this name there is nothing at all."""
    lacking = _lacking(controls, settings)
    found = [f"{name}.{key}" for name in _MAPS for key in lacking.get(name, {})]
    return found + [name for name in ("emergency_stop",) if name in lacking]


def _lacking(controls: Mapping[str, Any], settings: Settings) -> Settings:
    lacking: Settings = {}
    for name in _MAPS:
        there = controls.get(name, {})
        if not isinstance(there, dict):
            raise DamagedDocumentError(f"{CONTROLS} is damaged: {name}: must be a map")
        if new := {k: v for k, v in settings[name].items() if k not in there}:
            lacking[name] = new
    # Lifted by an operator it is false, and stays so: only where nobody has said anything.
    if settings.get("emergency_stop") and "emergency_stop" not in controls:
        lacking |= {name: settings[name] for name in ("emergency_stop", "emergency_reason")}
    return lacking


def _joined(one: Settings, other: Settings) -> Settings:
    result = dict(one)
    for name, value in other.items():
        result[name] = {**one.get(name, {}), **value} if name in _MAPS else value
    return result
