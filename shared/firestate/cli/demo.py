"""The command `firestate demo`: a story through the whole pipeline, and then the proof."""

from __future__ import annotations

import os
import shutil
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from firestate.audit.findings import Finding, FindingKind
from firestate.audit.full import FullAudit
from firestate.audit.message_outcomes import MessageOutcomes
from firestate.audit.repair import audit_and_repair
from firestate.cli.audit import print_report
from firestate.cli.connect import (
    FileOption,
    ProjectOption,
    local_file,
    open_publisher,
    open_store,
    project_or_fail,
)
from firestate.cli.output import (
    JsonOption,
    console,
    notes,
    print_json,
    table,
)
from firestate.cli.watch_view import Show
from firestate.demo.scenario import scenario
from firestate.errors import ConfigurationError
from firestate.pipeline.roll_up import RollUp
from firestate.schema.ids import GLOBAL_CONFIG
from firestate.schema.messages import EVENT_TOPIC, STATE_TOPIC

if TYPE_CHECKING:
    from rich.console import Console

    from firestate.audit.findings import AuditReport
    from firestate.cli.connect import PublishTarget
    from firestate.client.outgoing import Outgoing
    from firestate.stores.protocol import Store

_RATE = 10.0
_SHOW_EVERY_SECONDS = 1.0
_SAY_EVERY_SECONDS = 5
_PATIENCE_SECONDS = 120.0
_WAKING_SECONDS = 30.0
_MOST_SHOWN = 100


def demo(
    project: ProjectOption = None,
    file: FileOption = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Messages a second.")] = _RATE,
    *,
    as_json: JsonOption = False,
) -> None:
    """Play a story of a team of agents through the pipeline, live, and check the outcome.

    On emulators (`make demo` starts them), or with --file on the local engine. Exits 1 if any
    message is unaccounted for or any counter is off.
    """
    emulated = {"FIRESTORE_EMULATOR_HOST", "PUBSUB_EMULATOR_HOST"} <= os.environ.keys()
    file = local_file(project, file, default=False)
    if file is None and not emulated:
        message = "the demo fills a project with a story: run `make demo`, or name a local --file, "
        message += "or set the variables that `make emulators` prints"
        raise ConfigurationError(message)
    out = notes() if as_json else console()
    # From here on what was chosen is said outright: no file of the folder is taken by chance.
    project = None if file else project_or_fail(project)
    publisher = open_publisher(project, file)
    store = open_store(project, file)
    messages = scenario(datetime.now(UTC))
    distinct = len(dict.fromkeys((m.topic, m.data) for m in messages))
    out.print(
        f"Sending {len(messages)} messages, {distinct} of them distinct, at {rate:g} a second."
    )
    with Show(store, out) as show:
        first, rest = _first_of_each_topic(messages)
        _wake_functions(store, publisher, first, show)
        _publish(publisher, rest, rate, show, sent=len(first))
        fates, report = _settled(store, messages, show)
        if missing := fates["missing"]:
            _send_again(publisher, missing, out)
            fates, report = _settled(store, messages, show)
    met = {fate: len(those) for fate, those in fates.items()}
    if report.drift and not met["missing"] and all(map(_is_lost_trigger, report.findings)):
        report = _heal(store, out, report.drift)
    ok = not met["missing"] and not report.drift and not report.in_flight
    if as_json:
        sent = {"sent": len(messages), "distinct": distinct}
        print_json({**sent, "fates": met, "audit": report.as_json()})
        raise typer.Exit(0 if ok else 1)
    out.print("What became of each distinct message", style="italic")
    out.print(table("", ["fate", "messages"], [*met.items(), ("in all", sum(met.values()))]))
    for lost in fates["missing"]:
        out.print(f"missing: {lost.topic} {lost.data[:_MOST_SHOWN]!r}", markup=False)
    out.print()
    print_report(report)
    further = _FURTHER_IN_EMULATORS
    if file is not None:
        # `make demo` calls it by its place in an environment that no shell looks into.
        command = "firestate" if shutil.which("firestate") else os.path.relpath(sys.argv[0])
        further = _FURTHER_IN_A_FILE.format(file=file, firestate=command)
    out.print(further if ok else "[red]Something is off: see above.[/red]")
    raise typer.Exit(0 if ok else 1)


_FURTHER_IN_A_FILE = """
All of it is in {file}. To look around: `{firestate} system --file {file}`, or agents,
events, memory, quarantine list, audit. `export FIRESTATE_FILE={file}` saves the typing."""

_FURTHER_IN_EMULATORS = """
To look around: run `make emulators` in one terminal, and paste the lines that it prints into
another. There, run `firestate demo`, then `firestate system`, `agents`, `events`, `memory`."""


def _first_of_each_topic(messages: list[Outgoing]) -> tuple[list[Outgoing], list[Outgoing]]:
    rest = list(messages)
    first = []
    for topic in (STATE_TOPIC, EVENT_TOPIC):
        number = next(n for n, message in enumerate(rest) if message.topic == topic)
        first.append(rest.pop(number))
    return first, rest


def _wake_functions(
    store: Store, publisher: PublishTarget, first: list[Outgoing], show: Show
) -> None:
    """Send the first state and the first event, and wait until both are counted.

    Each function has its cold start here. So what follows is seen as it happens.
    """
    for message in first:
        publisher.publish(message)
    publisher.flush()
    started = time.monotonic()
    while time.monotonic() < started + _WAKING_SECONDS and not _counted_both(store):
        show.update(f"first messages sent, not yet counted{_waited(started)}")
        time.sleep(_SHOW_EVERY_SECONDS)


def _counted_both(store: Store) -> bool:
    system = store.read(GLOBAL_CONFIG)
    if system is None:
        return False
    events = system.data["system_metrics"]["coordination"]["total"]
    return bool(system.data["total_agents_spawned"] and events)


def _publish(
    publisher: PublishTarget, messages: list[Outgoing], rate: float, show: Show, *, sent: int
) -> None:
    started = shown = time.monotonic()
    for number, message in enumerate(messages):
        publisher.publish(message)
        while time.monotonic() < started + number / rate:
            time.sleep(0.02)
            if time.monotonic() > shown + _SHOW_EVERY_SECONDS:
                show.update(f"{sent + number + 1} of {sent + len(messages)} sent")
                shown = time.monotonic()
    publisher.flush()


def _settled(
    store: Store, messages: list[Outgoing], show: Show
) -> tuple[dict[str, list[Outgoing]], AuditReport]:
    """Wait until all has arrived and is counted, or nothing has moved for too long."""
    started = time.monotonic()
    deadline = started + _PATIENCE_SECONDS
    before = None
    while True:
        fates = MessageOutcomes(store).sort(messages)
        report = FullAudit(store, timedelta(hours=1)).run()
        missing = len(fates["missing"])
        now = (missing, report.in_flight, report.drift)
        waiting = f"{missing} messages on their way, {report.in_flight} to be counted"
        show.update(waiting + _waited(started))
        if not any(now):
            return fates, report
        if now != before:
            before, deadline = now, min(deadline, time.monotonic() + _PATIENCE_SECONDS / 4)
        if time.monotonic() > deadline:
            return fates, FullAudit(store, timedelta(0)).run()
        time.sleep(_SHOW_EVERY_SECONDS)


def _waited(started: float) -> str:
    """Say how long it has been waited: elsewhere than on a terminal, what is the same is silent."""
    seconds = int(time.monotonic() - started) // _SAY_EVERY_SECONDS * _SAY_EVERY_SECONDS
    return f", for {seconds} s" if seconds else ""


def _send_again(publisher: PublishTarget, missing: list[Outgoing], out: Console) -> None:
    out.print(
        f"The emulator suite lost {len(missing)} messages. It never delivers them again, as "
        "Pub/Sub does: they are sent once more.",
        style="yellow",
    )
    for message in missing:
        publisher.publish(message)
    publisher.flush()


def _is_lost_trigger(finding: Finding) -> bool:
    behind = finding.kind is FindingKind.ROW and finding.field == "version"
    return behind or finding.kind in (FindingKind.EVENT, FindingKind.GLOBAL)


def _heal(store: Store, out: Console, lost: int) -> AuditReport:
    out.print(
        f"The emulator suite lost {lost} triggers, which it never tries again as production does: "
        "healed by `firestate audit --repair`.",
        style="yellow",
    )
    audit_and_repair(store, RollUp(store), timedelta(0))
    return FullAudit(store, timedelta(0)).run()
