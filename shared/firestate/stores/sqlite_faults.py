"""What is wrong with a file that cannot be used as the local engine's, and what to do about it."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

from firestate.errors import StateFileError

if TYPE_CHECKING:
    from pathlib import Path

_PRIMARY = 0xFF  # of an extended error code
_FOREIGN = "name another file; nothing in this one was changed"


def foreign_file(path: Path | None, reason: str) -> StateFileError:
    """Return the error for a file that no local engine has made."""
    return StateFileError(path, f"is no file of Firestate's ({reason})", _FOREIGN)


def other_release(path: Path | None, version: int, own: int) -> StateFileError:
    """Return the error for a file in the form of another release."""
    reason = f"was written by another release (version {version}, this one {own})"
    return StateFileError(path, reason, "use the newer release of the two")


def read_only_file(path: Path | None, reason: str) -> StateFileError:
    """Return the error for a file that cannot be written, and can be looked at."""
    return StateFileError(
        path,
        f"cannot be written ({reason})",
        "let this user write to it and to its folder; as it is, commands that only read can be "
        f"used, such as `firestate agents --file {path}`",
        readable=True,
    )


def damaged_file(path: Path | None, reason: str) -> StateFileError:
    """Return the error for a file of ours in which SQLite cannot find its way."""
    return StateFileError(
        path,
        f"is damaged ({reason})",
        "stop what uses it, keep a copy, and restore it from a backup; "
        f"`sqlite3 {path} .recover` prints what can still be read",
    )


def fault_of_file(error: sqlite3.Error, path: Path | None) -> StateFileError | None:
    """Return the error for what no other try makes good; None: it may be good later."""
    match getattr(error, "sqlite_errorcode", 0) & _PRIMARY:
        case sqlite3.SQLITE_NOTADB:
            return foreign_file(path, str(error))
        case sqlite3.SQLITE_CORRUPT:
            return damaged_file(path, str(error))
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return read_only_file(path, str(error))
        case sqlite3.SQLITE_CANTOPEN if path is not None and path.is_dir():
            return foreign_file(path, "it is a folder")
        case sqlite3.SQLITE_CANTOPEN if path is not None and not is_writable(path):
            return read_only_file(path, str(error))
    return None


def is_writable(path: Path) -> bool:
    """Whether this process may write to a file, or make it, and its journal beside it."""
    effective = os.access in os.supports_effective_ids
    return all(
        os.access(each, os.W_OK, effective_ids=effective)
        for each in (path, path.absolute().parent)
        if each.exists()
    )


def address_to_look_at(path: Path) -> str:
    """Return the address by which SQLite opens a file, and changes nothing in its folder.

    To read in WAL mode SQLite makes a journal: so it is told that there is no such thing, where
    there is none, and to leave the journal's index alone, where there is one.
    """
    has_journal = path.with_name(f"{path.name}-wal").exists()
    how = "mode=ro&readonly_shm=1" if has_journal else "immutable=1"
    return f"{path.absolute().as_uri()}?{how}"
