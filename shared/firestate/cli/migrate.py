"""The command `firestate migrate`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from firestate.cli.connect import (
    FileOption,
    ProjectOption,
    fillable_store,
    local_file,
    project_or_fail,
)
from firestate.cli.migrate_view import applied_text, undone_text, verified_text
from firestate.cli.migrate_view import plan_text as show_report
from firestate.cli.output import JsonOption, notes, print_json, progress
from firestate.migration.apply.apply_plan import apply_plan
from firestate.migration.apply.merge_controls import forget
from firestate.migration.apply.progress import outcomes_shown, progress_of, scope_of
from firestate.migration.apply.target import Target, firestore_label
from firestate.migration.apply.throttle import NoThrottle, Throttle
from firestate.migration.plan.make_plan import PLAN, listing_of
from firestate.migration.plan.plan_file import read_head
from firestate.migration.plan.plan_report import report_of
from firestate.migration.plan_store import find_earlier_plan, make_new_plan
from firestate.migration.sources.resolve_source import open_source
from firestate.migration.verify.undo import undo
from firestate.migration.verify.verify_plan import verify_plan
from firestate.migration.workdir import FolderWorkdir

if TYPE_CHECKING:
    from firestate.migration.apply.progress import Progress
    from firestate.migration.sources.source import Source
    from firestate.migration.verify.receipts import Verified
    from firestate.migration.verify.undo import Undone
    from firestate.migration.workdir import Workdir

DEFAULT_WORK = Path(".firestate/migration")


class _Group(TyperGroup):
    """`migrate SOURCE` is short for `migrate files SOURCE`: most never need the other."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - click's context
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["files", *args]
        rest: list[str] = super().parse_args(ctx, args)
        return rest


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    help="Move old state files in, once: `firestate migrate SOURCE`, and back out: "
    "`firestate migrate undo RECEIPT`.\n\n"
    "SOURCE is a folder, a file, `gs://bucket/prefix`, or a file of the local engine. Without "
    "--apply nothing is written: see what would be. `firestate migrate files --help` lists the "
    "options.",
)

WorkOption = Annotated[
    Path,
    typer.Option("--work", help="Folder for the plan, the progress and the receipt."),
]
RateOption = Annotated[
    float | None,
    typer.Option(
        min=1, help="Most writes a second. Absent: 500, and half as many more every 5 minutes."
    ),
]


@app.command("files")
def files(
    source: Annotated[
        str, typer.Argument(help="Folder, file, gs://bucket/prefix, or a local engine's file.")
    ],
    project: ProjectOption = None,
    file: FileOption = None,
    work: WorkOption = DEFAULT_WORK,
    rate: RateOption = None,
    *,
    apply: Annotated[
        bool, typer.Option("--apply", help="Carry the plan out, or go on with it.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Compare what is stored with the files; give a receipt."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Plan a migration; with --apply carry it out, with --verify prove it.

    1. `firestate migrate old/` reads everything, writes a plan and reports on it.
    2. `firestate migrate old/ --apply` carries that plan out. Stopped, it goes on when called
       again; applied twice, it changes nothing. What an agent has written since is left alone.
    3. `firestate migrate old/ --verify` compares each document with its source, value by value,
       and writes a receipt, by which `firestate migrate undo` takes all of it back.

    Exits 1 where anything was refused, is missing or differs.
    """
    kept = FolderWorkdir(work)
    found = open_source(source, work)
    result: dict[str, Any] = {}
    with kept.alone():
        well = _plan(found, kept, result, anew=not (apply or verify), as_json=as_json)
        if apply or verify:
            target = _target(project, file, rate)
        if apply:
            tally = _apply(found, kept, target)
            well = well and not tally.counts["refused"]
            result["applied"] = outcomes_shown(tally) | {"reasons": tally.reasons}
            if not as_json:
                applied_text(tally)
        if verify:
            check = _verify(found, kept, target)
            well = well and check.well
            result["verified"] = dict(check.counts) | {"reasons": check.reasons}
            result["receipt"] = kept.shown(check.receipt)
            if not as_json:
                verified_text(check, kept.shown(check.receipt))
    if as_json:
        print_json(result)
    elif not (apply or verify):
        # With the same options: of another work folder it would be another plan.
        given = {"--project": project, "--file": file, "--rate": rate}
        options = {"--work": work if work != DEFAULT_WORK else None} | given
        words = [source, *(str(x) for each in options.items() if each[1] for x in each), "--apply"]
        more = f"Nothing was written. To carry it out: firestate migrate {shlex.join(words)}"
        notes().print(more, markup=False, soft_wrap=True)
    raise typer.Exit(0 if well else 1)


@app.command("undo")
def undo_command(
    receipt: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="What --verify has written.")
    ],
    project: ProjectOption = None,
    file: FileOption = None,
    rate: RateOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Take back what a migration made, where nobody has changed it since.

    States get a tombstone, events and settings are taken out, and all counters with them; only the
    number of agents ever spawned stays. Apply once more, and all is back. Exits 1 where something
    was left as it is.
    """
    target = _target(project, file, rate)
    work = FolderWorkdir(receipt.parent)
    with work.alone(), progress() as bar:
        task = bar.add_task("Undoing", total=None)

        def told(so_far: Undone) -> None:
            bar.update(task, completed=so_far.counts.total())

        found = undo(receipt, target, told=told)
        forget(work)
    if as_json:
        print_json(dict(found.counts) | {"reasons": found.reasons})
    else:
        undone_text(found)
    raise typer.Exit(1 if found.counts["left"] else 0)


def _plan(
    source: Source, work: Workdir, result: dict[str, Any], *, anew: bool, as_json: bool
) -> bool:
    """Make the plan, or take the one that is there; tell whether nothing was refused."""
    path = None if anew else find_earlier_plan(source, work)
    seen = path is not None
    if path is not None and read_head(path).listing != listing_of(source):
        result["files_changed"] = True
        notes().print(
            "The files are not those of the plan any more: what is new, or was mended, is not in "
            "it. Without --apply and --verify it is made anew.",
            style="yellow",
        )
    if path is None:
        with progress() as bar:
            task = bar.add_task("Reading", total=None)
            path = make_new_plan(source, work, lambda _name, _size: bar.advance(task))
    found = report_of(path)
    result["report"] = found.as_json() | {"plan_file": work.shown(path.name)}
    if not as_json:
        show_report(found, work.shown(path.name), short=seen)
    return not found.outcomes["refused"]


def _target(project: str | None, file: Path | None, rate: float | None) -> Target:
    """Give where to write to; a file on this machine has no pace to keep."""
    store = fillable_store(project, file)
    if local := local_file(project, file):
        return Target(store, NoThrottle(), f"file {local.resolve()}")
    return Target(store, Throttle(most=rate), firestore_label(project_or_fail(project)))


def _apply(source: Source, work: Workdir, target: Target) -> Progress:
    head = read_head(work.folder / PLAN)
    begun = progress_of(work, scope_of(head.id, target))
    if begun.done:
        notes().print(f"Going on at record {begun.done:,} of {head.lines:,}.", highlight=False)
    with progress() as bar:
        task = bar.add_task("Writing", total=head.lines, completed=begun.done)
        return apply_plan(
            source, work, target, told=lambda so_far: bar.update(task, completed=so_far.done)
        )


def _verify(source: Source, work: Workdir, target: Target) -> Verified:
    with progress() as bar:
        task = bar.add_task("Comparing", total=read_head(work.folder / PLAN).lines)

        def told(so_far: Verified) -> None:
            bar.update(task, completed=so_far.counts.total())

        return verify_plan(source, work, target, told=told)
