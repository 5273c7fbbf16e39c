"""The command `firestate`."""

from __future__ import annotations

import typer

from firestate.cli import audit, demo, replay, views
from firestate.cli.output import fail
from firestate.errors import ConfigurationError, FirestateError

app = typer.Typer(
    help="Look at the state of your agents, check it, and replay recorded runs.\n\n"
    "The project is taken from --project or GOOGLE_CLOUD_PROJECT; with FIRESTORE_EMULATOR_HOST "
    "and PUBSUB_EMULATOR_HOST set, all goes to the emulators. Exit codes: 0 all is well, "
    "1 something is off, 2 the command was not understood, 3 it could not be done.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("system")(views.system)
app.command("agents")(views.agents)
app.command("events")(views.events)
app.command("memory")(views.memory)
app.command("replay")(replay.replay)
app.command("audit")(audit.audit)
app.command("rederive")(audit.rederive_states)
app.command("demo")(demo.demo)


def main() -> None:
    """Run the command line; an error of ours is one line, not a traceback."""
    try:
        app()
    except ConfigurationError as error:
        fail(str(error), code=2)
    except FirestateError as error:
        fail(str(error), code=3)
