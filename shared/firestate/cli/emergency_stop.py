"""The command `firestate emergency-stop`: all agents stop, and go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from firestate.cli.connect import FileOption, ProjectOption, open_store, writable_store
from firestate.cli.flags import Switch  # noqa: TC001 - typer reads it at run time
from firestate.cli.output import JsonOption, ago, console, print_json
from firestate.cli.system import emergency_text
from firestate.errors import ConfigurationError
from firestate.operations.operator_controls import change_controls, with_emergency
from firestate.schema.ids import CONTROLS

if TYPE_CHECKING:
    from firestate.stores.protocol import Store


def emergency_stop(
    switch: Annotated[
        Switch | None,
        typer.Argument(metavar="on|off", help="Stop all agents, or let them go on."),
    ] = None,
    project: ProjectOption = None,
    file: FileOption = None,
    *,
    reason: Annotated[
        str | None,
        typer.Option("--reason", "-r", help="Why, for the agents and for people; with `on`."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Stop all agents, let them go on, or show whether they are to stop: then exit 1 if so.

    Agents know within moments: none of them can spawn others any more, and those that ask with
    `manager.controls.check()` are told to stop, and why. What they save is sent all the same.

    Example: `firestate emergency-stop on --reason "the planner deletes files"`
    """
    if switch is None or switch.value == "off":
        if reason is not None:
            message = "a --reason belongs to `emergency-stop on`"
            raise ConfigurationError(message)
    elif reason is None:
        message = 'say why, for those who are stopped: emergency-stop on --reason "..."'
        raise ConfigurationError(message)
    if switch is None:
        raise typer.Exit(1 if _show(open_store(project, file), as_json=as_json) else 0)
    change = with_emergency(reason)
    store = writable_store(project, file)
    if not change_controls(store, change) and not as_json:
        console().print("It is so already: nothing was written.")
    _show(store, as_json=as_json)


def _show(store: Store, *, as_json: bool) -> bool:
    stored = store.read(CONTROLS, ["emergency_stop", "emergency_reason"])
    data = stored.data if stored else {}
    # As agents take it, whatever it holds.
    stopped = bool(data.get("emergency_stop"))
    if as_json:
        reason = data.get("emergency_reason")
        print_json({"emergency_stop": stopped, "emergency_reason": reason})
    elif stopped and stored is not None:
        text = emergency_text(data).append(f" (controls changed {ago(stored.updated_at)})", "dim")
        console().print(text, soft_wrap=True)
    else:
        console().print("No emergency stop: agents may work.")
    return stopped
