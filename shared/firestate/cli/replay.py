"""The command `firestate replay`."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 - typer reads it at run time
from typing import Annotated

import typer

from firestate.cli.connect import FileOption, ProjectOption, open_publisher
from firestate.cli.output import JsonOption, console, print_json, progress
from firestate.replay.message_files import made_bad, read_messages


def replay(
    files: Annotated[
        list[Path],
        typer.Argument(
            exists=True,
            help="JSON Lines of messages, recorded transcripts, or folders of them.",
        ),
    ],
    project: ProjectOption = None,
    file: FileOption = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.01, help="Messages a second; as fast as it goes if absent."),
    ] = None,
    start: Annotated[
        datetime | None, typer.Option(help="When recorded runs begin (UTC); now if absent.")
    ] = None,
    *,
    duplicate: Annotated[
        bool, typer.Option("--duplicate", help="Send each message twice.")
    ] = False,
    shuffle: Annotated[
        int | None, typer.Option(metavar="SEED", help="Send in an order drawn by this seed.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Publish recorded messages, or recorded multi-agent runs, as agents would have.

    Each turn of a run makes the speaker's state, each change of speaker a handoff, a speaker's
    first turn a spawn, a labelled mistake an error, the end a termination of all.
    """
    begin = start.replace(tzinfo=UTC) if start else datetime.now(UTC)
    distinct = read_messages(files, begin)
    messages = made_bad(distinct, duplicate=duplicate, shuffle_seed=shuffle)
    publisher = open_publisher(project, file)
    distinct_count = len({(message.topic, message.data) for message in distinct})
    started = time.monotonic()
    with progress() as bar:
        for number, message in enumerate(bar.track(messages, description="Publishing")):
            if rate is not None:
                time.sleep(max(0.0, started + number / rate - time.monotonic()))
            publisher.publish(message)
        publisher.flush()
    seconds = time.monotonic() - started
    if as_json:
        print_json(
            {"distinct": distinct_count, "published": len(messages), "seconds": round(seconds, 3)}
        )
    else:
        console().print(
            f"Published {len(messages):,} messages "
            f"({distinct_count:,} distinct) in {seconds:.1f} s."
        )
