"""What operators set, in `system_state/controls`: feature flags and the emergency stop.

The command line answers to IAM and not to `firestore.rules`. What those would refuse from an
operator who has signed in is refused here as well, so that whoever reads the controls finds what
the rules promise; `problems_of_controls` says the same as `validControls` there.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from firestate.errors import (
    ConfigurationError,
    DamagedDocumentError,
    FieldProblem,
    SchemaTooNewError,
)
from firestate.limits import MAX_REASON
from firestate.pipeline.retry import retry_on_conflict
from firestate.schema.ids import CONTROLS
from firestate.schema.upgrades import upgraded
from firestate.schema.values import problems_of, text_problem
from firestate.stores.protocol import Create, Update

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from firestate.stores.protocol import Store

    Document = dict[str, Any]
    Change = Callable[[Mapping[str, Any]], Document | None]
    """From the controls as they are to those that are wanted; None where they are so already."""

_FIELDS = (
    "schema_version",
    "feature_flags",
    "emergency_stop",
    "emergency_reason",
    "global_config",
    "last_updated",
)
_VERSION = 1
"""Of the controls alone: agents of every release read them, so that it rises for them alone."""
_MOST_SHOWN = 80


def change_controls(
    store: Store, change: Change, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> bool:
    """Read the controls, change them, and write them if they are still as read; else once more.

    Gives False where nothing was to be done. Raises DamagedDocumentError where what is changed is
    what the rules would refuse, SchemaTooNewError, StoreError. Of other fields nothing is said: an
    emergency stop must not fail because of a setting that somebody else has got wrong.
    """

    def attempt() -> bool:
        stored = store.read(CONTROLS)
        wanted = change(_in_todays_shape(stored.data) if stored else {})
        if wanted is None:
            return False
        wanted |= {"schema_version": _VERSION, "last_updated": now()}
        before = stored.data if stored else {}
        touched = {name: value for name, value in wanted.items() if before.get(name) != value}
        if problems := list(problems_of_controls(touched)):
            message = f"{CONTROLS} is damaged, nothing was written: {'; '.join(map(str, problems))}"
            raise DamagedDocumentError(message)
        # Whole: among equal values are such of different types (1 and True).
        write = Update(CONTROLS, stored.token, wanted) if stored else Create(CONTROLS, wanted)
        store.commit([write])
        return True

    return retry_on_conflict(CONTROLS, attempt)


def with_flag(name: str, *, value: bool | None) -> Change:
    """Set a flag, or with None take it away; raise ConfigurationError for what is no name."""
    for problem in problems_of({name: True}, "flag"):
        message = f"{name[:_MOST_SHOWN]!a} is no name of a flag: it {problem.reason}"
        raise ConfigurationError(message)

    def change(controls: Mapping[str, Any]) -> Document | None:
        flags = controls.get("feature_flags", {})
        if not isinstance(flags, dict):
            message = f"{CONTROLS} is damaged: feature_flags: must be a map"
            raise DamagedDocumentError(message)
        if flags.get(name, None) is value and (value is not None or name not in flags):
            return None
        rest = {each: flags[each] for each in flags if each != name}
        return {
            **controls,
            "feature_flags": rest if value is None else {**rest, name: value},
        }

    return change


def with_emergency(reason: str | None) -> Change:
    """Set the emergency stop, for a reason, or with None lift it.

    Raises ConfigurationError for a reason that is empty, too long, or no text.
    """
    if reason is not None and (problem := _reason_problem(reason)):
        message = f"the reason {problem}"
        raise ConfigurationError(message)
    fields = {"emergency_stop": reason is not None, "emergency_reason": reason}

    def change(controls: Mapping[str, Any]) -> Document | None:
        now = controls.get("emergency_stop", False)
        if now is fields["emergency_stop"] and controls.get("emergency_reason") == reason:
            return None
        return {**controls, **fields}

    return change


def problems_of_controls(controls: Mapping[str, Any]) -> Iterator[FieldProblem]:
    """Give what `firestore.rules` would refuse, the time of the request aside."""
    for name in controls.keys() - set(_FIELDS):
        yield FieldProblem(name[:_MOST_SHOWN], "is no field of the controls: remove it")
    version = controls.get("schema_version", 1)
    if not isinstance(version, int) or isinstance(version, bool):
        yield FieldProblem("schema_version", "must be a whole number")
    flags = controls.get("feature_flags", {})
    if not isinstance(flags, dict):
        yield FieldProblem("feature_flags", "must be a map")
        flags = {}
    for name, value in flags.items():
        if not isinstance(value, bool):
            yield FieldProblem(f"feature_flags.{name[:_MOST_SHOWN]}", "must be true or false")
    if not isinstance(controls.get("emergency_stop", False), bool):
        yield FieldProblem("emergency_stop", "must be true or false")
    reason = controls.get("emergency_reason")
    if reason is not None and (not isinstance(reason, str) or _length(reason) > MAX_REASON):
        yield FieldProblem("emergency_reason", f"must be text of at most {MAX_REASON} characters")
    if not isinstance(controls.get("global_config", {}), dict):
        yield FieldProblem("global_config", "must be a map")


def _in_todays_shape(controls: Mapping[str, Any]) -> Document:
    try:
        return upgraded(dict(controls), controls.get("schema_version", _VERSION), ())
    except SchemaTooNewError as error:
        message = f"{CONTROLS}: schema_version {error}"
        raise SchemaTooNewError(message) from error


def _reason_problem(reason: str) -> str | None:
    if not reason.strip():
        return "must not be empty: who is stopped wants to know why"
    if problem := text_problem(reason):
        return problem
    if (length := _length(reason)) > MAX_REASON:
        return f"has {length:,} characters, at most {MAX_REASON:,} are allowed"
    return None


def _length(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
