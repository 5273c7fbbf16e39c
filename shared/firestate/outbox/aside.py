"""A file that is damaged is put aside under another name, with its journal; it is not removed."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def is_damaged(error: BaseException | None) -> bool:
    """Whether SQLite says that a file is none of its own, or damaged."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}


def put_aside(path: Path) -> Path:
    """Put a file aside; return where it lies now."""
    aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
    for suffix in ("", "-wal", "-shm"):  # its journal holds messages as well
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(f"{aside}{suffix}")
    return aside
