"""The command `firestate`."""

from __future__ import annotations

from typing import Annotated

import typer

from firestate.cli import (
    audit,
    clean_up,
    demo,
    emergency_stop,
    flags,
    migrate,
    outbox,
    quarantine_commands,
    read_commands,
    replay,
    roles,
    system,
    watch,
)
from firestate.cli.connect import close_engines
from firestate.cli.output import fail
from firestate.errors import ConfigurationError, FirestateError
from firestate.version import __version__

app = typer.Typer(
    help="Look at the state of your agents, check it, replay recorded runs, and move old state "
    "files in.\n\n"
    "The project is taken from --project or GOOGLE_CLOUD_PROJECT; with FIRESTORE_EMULATOR_HOST "
    "and PUBSUB_EMULATOR_HOST set, all goes to the emulators. With --file (or FIRESTATE_FILE) it "
    "is a file of the local engine instead: no account, no emulators. Exit codes: 0 all is well, "
    "1 something is off, 2 the command or a setting is wrong, 3 it could not be done.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("system")(system.system)
app.command("agents")(read_commands.agents)
app.command("events")(read_commands.events)
app.command("memory")(read_commands.memory)
app.command("watch")(watch.watch)
app.command("outbox")(outbox.outbox)
app.add_typer(flags.app, name="flags")
app.command("emergency-stop")(emergency_stop.emergency_stop)
app.add_typer(migrate.app, name="migrate")
app.command("replay")(replay.replay)
app.add_typer(quarantine_commands.app, name="quarantine")
app.add_typer(roles.app, name="roles")
app.command("audit")(audit.audit)
app.command("rederive")(audit.rederive_states)
app.command("clean-up")(clean_up.clean_up)
app.command("demo")(demo.demo)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        typer.echo(f"firestate {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    del version  # its callback has done everything


def main() -> None:
    """Run the command line; an error of ours is one line, not a traceback."""
    try:
        try:
            app()
        finally:
            close_engines()
    except ConfigurationError as error:
        fail(str(error), code=2)
    except FirestateError as error:
        fail(str(error), code=3)
