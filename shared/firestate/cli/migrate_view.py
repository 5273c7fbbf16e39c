"""What a migration shows to people: the report of its plan, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firestate.cli.output import console, table
from firestate.cli.terminal_text import safe_text
from firestate.migration.apply.progress import outcomes_shown

if TYPE_CHECKING:
    from collections import Counter

    from rich.console import Console

    from firestate.migration.apply.progress import Progress
    from firestate.migration.plan.plan_report import PlanReport
    from firestate.migration.verify.receipts import Verified
    from firestate.migration.verify.undo import Undone

_MOST_LINES = 30
_MOST_NAMES = 8
_CENT = 0.01


def plan_text(found: PlanReport, plan: str, *, short: bool) -> None:
    """Show what a plan comes to; `short` where it has been shown before."""
    out = console()
    if not short:
        _counts(out, found)
    _refusals(out, found, short=short)
    if short:
        return
    if found.replaced:
        rows = [(each.source, each.at or "-", each.by) for each in found.replaced[:_MOST_LINES]]
        out.print(table("Older, or copies: not taken", ["file", "at", "instead of it"], rows))
        _more(out, len(found.replaced), found.outcomes["superseded"] + found.outcomes["copy"])
    _warnings(out, found)
    if found.empty:
        names = ", ".join(each.source for each in found.empty[:_MOST_NAMES])
        more = ", ..." if found.outcomes["empty"] > _MOST_NAMES else ""
        _line(out, f"Empty ({found.outcomes['empty']:,}): {names}{more}.")
    _marked(out, found)
    if found.head.unseen:
        counts = ", ".join(f"{name} {n:,}" for name, n in found.head.unseen.items())
        _line(out, f"Not looked into: {counts}.")
    _line(
        out,
        f"{found.bytes / 1e6:,.1f} MB in Firestore; to apply and verify, with the triggers, about "
        f"{found.reads:,} reads and {found.writes:,} writes: {_price(found.dollars)}.",
    )
    _line(out, f"Plan: {plan}")


def applied_text(tally: Progress) -> None:
    """Show what came of an apply."""
    shown = ", ".join(f"{name} {count:,}" for name, count in outcomes_shown(tally).items())
    out = console()
    _line(out, f"Applied: {shown or 'nothing to do'}.", style="green" if tally.finished else None)
    for reason in tally.reasons[:_MOST_LINES]:
        _line(out, reason, style="red")
    _more(out, min(len(tally.reasons), _MOST_LINES), tally.counts["refused"])


def verified_text(found: Verified, receipt: str) -> None:
    """Show what a comparison found."""
    shown = ", ".join(f"{name} {count:,}" for name, count in sorted(found.counts.items()))
    out = console()
    _line(out, f"Compared with the files: {shown}.", style="green" if found.well else "red")
    for reason in found.reasons[:_MOST_LINES]:
        _line(out, reason, style="red")
    _line(out, f"Receipt: {receipt}")


def undone_text(found: Undone) -> None:
    """Show what was taken back."""
    out = console()
    _line(out, f"Undone: {found.counts['undone']:,} documents.", style="green")
    if before := found.counts["undone before"]:
        _line(out, f"Undone before, or gone: {before:,}.")
    if left := found.counts["left"]:
        _line(out, f"Left as they are: {left:,}.", style="yellow")
    for reason in found.reasons[:_MOST_LINES]:
        _line(out, f"  {reason}")


def _most(counts: Counter[str]) -> str:
    shown = ", ".join(f"{name} {n:,}" for name, n in counts.most_common(_MOST_NAMES))
    return f"{shown}, ..." if len(counts) > _MOST_NAMES else shown


def _price(dollars: float) -> str:
    shown = f"${dollars:,.2f}" if dollars >= _CENT else "less than a cent"
    return f"{shown} at list prices"


def _counts(out: Console, found: PlanReport) -> None:
    files = sorted(found.files.items())
    out.print(table(f"Files ({found.head.files:,})", ["format", "files"], files))
    documents = sorted(found.documents.items())
    out.print(table("Documents", ["collection", "documents"], documents))


def _refusals(out: Console, found: PlanReport, *, short: bool) -> None:
    refused = found.outcomes["refused"]
    if not refused:
        return
    if short:
        _line(out, f"Refused when it was planned: {refused:,}.", style="yellow")
        return
    _line(out, f"Refused ({refused:,}):", style="red")
    for each in found.refusals[:_MOST_LINES]:
        _line(out, f"  {each.source}: {each.place}: {each.reason}: {each.advice}")
    _more(out, min(len(found.refusals), _MOST_LINES), refused)


def _warnings(out: Console, found: PlanReport) -> None:
    if found.exposed:
        counts = _most(found.exposed)
        _line(
            out,
            f"Named like secrets, and viewers can read what is stored: {counts}. Take out of the "
            "files what is one.",
            style="yellow",
        )
    if found.warnings:
        _line(out, f"To look at ({found.outcomes['warning']:,}):", style="yellow")
        for each in found.warnings[:_MOST_LINES]:
            _line(out, f"  {each.source}: {each.reason}: {each.advice}")
        _more(out, len(found.warnings[:_MOST_LINES]), found.outcomes["warning"])


def _marked(out: Console, found: PlanReport) -> None:
    """Tell what is not as in the files."""
    if found.guessed:
        counts = _most(found.guessed)
        _line(out, f"Not in the files, and filled in: {counts}. Each is marked in its document.")
    if found.kept:
        _line(out, f"Kept beside, under `legacy`: {_most(found.kept)}.")
    if found.withheld:
        _line(out, f"Secrets, and left out: {_most(found.withheld)}.")


def _more(out: Console, shown: int, all_of_them: int) -> None:
    if all_of_them > shown:
        _line(out, f"  ... and {all_of_them - shown:,} more: they are in the plan.")


def _line(out: Console, text: str, style: str | None = None) -> None:
    out.print(safe_text(text), style=style, markup=False, soft_wrap=True)
