"""The commands `firestate flags ...`: feature flags of the agents, shown and set."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from firestate.cli.connect import FileOption, ProjectOption, open_store, writable_store
from firestate.cli.output import JsonOption, console, fail, print_json, table
from firestate.cli.terminal_text import safe_text
from firestate.errors import ConfigurationError, DamagedDocumentError
from firestate.operations.operator_controls import change_controls, with_flag
from firestate.schema.ids import CONTROLS

if TYPE_CHECKING:
    from pathlib import Path

app = typer.Typer(
    help="List the feature flags that agents ask for, or set one.\n\n"
    "Agents have a change within moments, without a restart: `manager.controls.flag(NAME)`. A "
    "flag that is not set is what each agent takes as its default.\n\n"
    "Example: `firestate flags set new-planner on`"
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The name of a flag.")]


class Switch(Enum):
    """On or off."""

    ON = "on"
    OFF = "off"


@app.callback(invoke_without_command=True)
def flags(
    context: typer.Context,
    project: ProjectOption = None,
    file: FileOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List the flags, where no more is said."""
    if context.invoked_subcommand is not None:
        if project is not None or file is not None or as_json:
            # Else they would be taken for said, and another project would be changed.
            message = f"write options after `flags {context.invoked_subcommand}`"
            raise ConfigurationError(message)
        return
    found = _flags(project, file)
    if as_json:
        print_json(found)
        return
    if not found:
        console().print("No feature flag is set: agents take their defaults.")
        return
    rows = [(name, _shown(value)) for name, value in sorted(found.items())]
    console().print(table("", ["feature flag", "is"], rows))


@app.command("set")
def set_flag(
    name: NameArgument,
    switch: Annotated[Switch, typer.Argument(metavar="on|off", help="What it is from now on.")],
    project: ProjectOption = None,
    file: FileOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Set a flag, for all agents.

    Example: `firestate flags set new-planner off`
    """
    value = switch is Switch.ON
    change = with_flag(name, value=value)
    changed = change_controls(writable_store(project, file), change)
    if as_json:
        print_json({"flag": name, "value": value, "changed": changed})
        return
    is_now = "is" if changed else "was"
    end = "" if changed else " already"
    console().print(
        safe_text(f"{name} {is_now} {switch.value}{end}."), markup=False, soft_wrap=True
    )


@app.command("unset")
def unset_flag(
    name: NameArgument,
    project: ProjectOption = None,
    file: FileOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Take a flag away: each agent then takes its own default. Exits 1 where it is not set.

    Example: `firestate flags unset new-planner`
    """
    change = with_flag(name, value=None)
    changed = change_controls(writable_store(project, file), change)
    if as_json:
        print_json({"flag": name, "value": None, "changed": changed})
        raise typer.Exit(0 if changed else 1)
    if not changed:
        fail(f"there is no flag {name}: `firestate flags` lists them")
    console().print(safe_text(f"{name} is not set any more."), markup=False, soft_wrap=True)


def _flags(project: str | None, file: Path | None) -> dict[str, Any]:
    stored = open_store(project, file).read(CONTROLS, ["feature_flags"])
    found = stored.data.get("feature_flags", {}) if stored else {}
    if not isinstance(found, dict):
        message = f"{CONTROLS} is damaged: feature_flags: must be a map"
        raise DamagedDocumentError(message)
    return found


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "neither on nor off: agents take their default"
