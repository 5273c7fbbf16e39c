"""The commands `firestate audit` and `firestate rederive`."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from firestate.audit.full import DEFAULT_GRACE, FullAudit
from firestate.audit.repair import audit_and_repair
from firestate.cli.connect import FileOption, ProjectOption, open_store, writable_store
from firestate.cli.output import JsonOption, console, print_json, table
from firestate.operations.rederive import rederive
from firestate.pipeline.roll_up import RollUp

if TYPE_CHECKING:
    from firestate.audit.findings import AuditReport

_MOST_SHOWN = 30
_MOST_TEXT = 60


def audit(
    project: ProjectOption = None,
    file: FileOption = None,
    grace: Annotated[
        float,
        typer.Option(
            min=0,
            max=86_400,
            help="Seconds for which a trigger may be under way without being drift.",
        ),
    ] = DEFAULT_GRACE.total_seconds(),
    *,
    repair: Annotated[
        bool, typer.Option("--repair", help="Put right what is found; safe under traffic.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Count everything once more from the documents, and compare. Exits 1 on drift.

    With --repair it still exits 1 where there was drift, so that somebody asks why.
    """
    span = timedelta(seconds=grace)
    if repair:
        store = writable_store(project, file)
        report = audit_and_repair(store, RollUp(store), span)
    else:
        report = FullAudit(open_store(project, file), span).run()
    if as_json:
        print_json(report.as_json())
    else:
        print_report(report)
    raise typer.Exit(1 if report.drift else 0)


def print_report(report: AuditReport) -> None:
    """Show a report for people."""
    out = console()
    out.print(
        f"Audited {report.states:,} states, {report.rows:,} ledger rows, {report.events:,} events "
        f"and {report.memories:,} memories, as of {report.read_at:%H:%M:%S.%f} UTC."
    )
    if report.at_former_paths:
        out.print(
            f"States at the path of an earlier release: {report.at_former_paths:,}. "
            "`firestate rederive` moves them."
        )
    if report.in_flight:
        out.print(f"Triggers still under way, not counted as drift: {report.in_flight:,}.")
    if report.expired_events:
        out.print(
            f"Events that have expired, known by their totals alone: {report.expired_events:,}."
        )
    if not report.drift:
        out.print(
            "0 drift: every counter and every memory is what its documents say.", style="green"
        )
        return
    rows = [
        (f.kind.value, f.path, f.field, str(f.expected)[:_MOST_TEXT], str(f.found)[:_MOST_TEXT])
        for f in report.findings[:_MOST_SHOWN]
    ]
    columns = ["kind", "document", "field", "expected", "found"]
    out.print(table(f"{report.drift:,} drift", columns, rows))
    if report.repaired:
        out.print(f"{report.repaired:,} repaired: audit once more to see it.", style="yellow")
    else:
        out.print("Run it again with --repair to put this right.", style="red")


def rederive_states(
    project: ProjectOption = None, file: FileOption = None, *, as_json: JsonOption = False
) -> None:
    """Bring what is stored up to this release: move states, count each again, release messages.

    Run it after an upgrade, or after going back to an earlier release. Safe under traffic; where
    it was stopped, run it again.
    """
    store = writable_store(project, file)
    outcomes = Counter(report.outcome.value for report in rederive(store))
    RollUp(store).fold()  # what a release shows anew, also where nothing was counted
    if as_json:
        print_json(dict(outcomes))
    else:
        states = outcomes["counted"] + outcomes["unchanged"]
        console().print(
            f"Rederived {states:,} states: {outcomes['counted']:,} counted anew, "
            f"{outcomes['unchanged']:,} unchanged."
        )
        if outcomes["ignored"]:
            console().print(
                f"Left alone, since no agent wrote them so: {outcomes['ignored']:,} documents. "
                "`firestate audit` names those that are counted."
            )
        if outcomes["moved"]:
            console().print(f"Moved to the path of this release: {outcomes['moved']:,} states.")
        if outcomes["released"] or outcomes["quarantined"]:
            console().print(
                f"Released from quarantine: {outcomes['released']:,} messages; refused again: "
                f"{outcomes['quarantined']:,}."
            )
