"""Which messages of the quarantine are meant: by ids, by code, or all; asked for where many."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from firestate.cli.output import fail, notes, progress
from firestate.errors import ConfigurationError, DamagedDocumentError, FirestateError
from firestate.lookup import look_up
from firestate.queries import ALL_KEPT, KEPT_WITH_ID, LOOK_UP_KEPT, WAITING_OR_NOT
from firestate.schema.ids import QUARANTINE, quarantine_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from firestate.stores.protocol import Store

IdArguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ID]...", help="Ids, or at least their first 6 digits."),
]
CodeOption = Annotated[str | None, typer.Option(help="Only with this code, such as schema.")]
AllOption = Annotated[bool, typer.Option("--all", help="All of them.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

T = TypeVar("T")

_ID = re.compile(r"[0-9a-f]{6,40}")
_WHOLE_ID = 40
_AFTER_ALL_DIGITS = "g"
_MOST_ECHOED = 60


@dataclass
class Done:
    """How many it was done to, how many were gone meanwhile, how many could not be read."""

    number: int = 0
    gone: int = 0
    damaged: int = 0

    @property
    def exit_code(self) -> int:
        """3 where one could not be read, else 0."""
        return 3 if self.damaged else 0


def find_id(store: Store, text: str) -> str:
    """Give the whole id; raise ConfigurationError for what is none, or begins several.

    Exits with code 1 where there is none of this id.
    """
    digits = text.removeprefix(f"{QUARANTINE}/").lower()
    if not _ID.fullmatch(digits):
        message = f"{text[:_MOST_ECHOED]!a} is no id: it needs 6 to 40 hex digits"
        raise ConfigurationError(message)
    if len(digits) == _WHOLE_ID:
        # Not by the field: that may be what is damaged.
        found = [digits] if store.read(quarantine_path(digits), ["id"]) else []
    else:
        beginning_so = KEPT_WITH_ID.query(
            low=digits, high=digits + _AFTER_ALL_DIGITS, limit=2, fields=["id"]
        )
        found = [each.id for each in store.query(beginning_so)]
    if not found:
        fail(f"no message {digits} in quarantine: `firestate quarantine list --all` lists them")
    if len(found) > 1:
        message = f"{digits} begins more than one id: give more digits"
        raise ConfigurationError(message)
    return found[0]


def chosen(
    store: Store,
    ids: Sequence[str] | None,
    code: str | None,
    *,
    everything: bool,
    waiting: bool | None,
) -> list[str]:
    """Give the ids that are meant, oldest first; by --all or --code only as `waiting` says.

    All are looked up before anything is done: what is refused again meanwhile is not taken twice.
    """
    if bool(ids) + (code is not None) + everything != 1:
        message = "name messages by their ids, or give --all, or --code CODE"
        raise ConfigurationError(message)
    if ids:
        return list(dict.fromkeys(find_id(store, each) for each in ids))
    wanted = {"code": code, "waiting": WAITING_OR_NOT if waiting is None else waiting}
    if code is None and waiting is None:
        # Not by a field: all are meant, also those that have been damaged.
        found = store.query(ALL_KEPT.query(fields=["first_seen"]))
    else:
        found = look_up(store, LOOK_UP_KEPT, wanted, fields=["first_seen"])
    return [each.id for each in sorted(found, key=lambda each: str(each.data.get("first_seen")))]


def confirm(what: str, ids: Sequence[str], *, sure: bool) -> None:
    """Ask before more than one message is touched; exit with code 1 where the answer is no."""
    if sure or not ids:
        return
    if not typer.confirm(f"{len(ids):,} messages: {what}?", err=True):
        fail("nothing was done")


def one_by_one(what: str, ids: Sequence[T], work: Callable[[T], bool]) -> Done:
    """Do `work` to each, which tells whether it was there; one that is damaged stops no other."""
    done = Done()
    with progress() as bar:
        for each in bar.track(ids, description=what):
            try:
                if work(each):
                    done.number += 1
                else:
                    done.gone += 1
            except DamagedDocumentError as error:
                done.damaged += 1
                notes().print(f"firestate: {error}", style="red", markup=False, soft_wrap=True)
            except FirestateError:
                told = f"firestate: {done.number:,} of {len(ids):,} were done before this:"
                notes().print(told, style="red")
                raise
    return done
