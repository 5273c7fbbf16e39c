"""The name under which a folder writes: all processes that share an outbox are one writer.

The name is kept in the outbox file, beside where the file lay when the name was made. A copy of
the file lies elsewhere (another device or inode): it gets a name of its own, so that two folders
never write under one name.
"""

from __future__ import annotations

import secrets
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

_MOST_HOST = 200
_NAME = "SELECT name FROM writer WHERE place = ?"
_SET = "INSERT INTO writer VALUES (1, ?, ?) ON CONFLICT (id) DO UPDATE SET name = ?, place = ?"


def new_writer_name() -> str:
    """Return a name that nobody else has: for people it begins with the host's."""
    host = socket.gethostname().replace("/", "-")[:_MOST_HOST]
    return f"{host}-{secrets.token_hex(8)}"


def place_of(path: Path) -> str | None:
    """Return which file lies at a path: its device and inode; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return f"{status.st_dev}:{status.st_ino}"


def writer_of(connection: sqlite3.Connection) -> tuple[str, str] | None:
    """Return the name of a file's writer, and the place that it was made for."""
    found: tuple[str, str] | None = connection.execute("SELECT name, place FROM writer").fetchone()
    return found


def set_writer(connection: sqlite3.Connection, name: str, path: Path) -> None:
    """Have the file at `path` write under a name."""
    place = place_of(path)
    connection.execute(_SET, (name, place, name, place))


def leave_place(connection: sqlite3.Connection) -> None:
    """Have a file that was moved away write under a name of its own, whoever opens it there."""
    connection.execute("UPDATE writer SET place = ''")


def writer_name(connection: sqlite3.Connection, path: Path) -> str:
    """Return the name of the outbox at `path`; make it where the file has none, or is a copy."""
    place = place_of(path)
    if found := connection.execute(_NAME, (place,)).fetchone():
        return str(found[0])
    connection.execute("BEGIN IMMEDIATE")  # of processes that open it at once one makes the name
    try:
        found = connection.execute(_NAME, (place,)).fetchone()
        name = str(found[0]) if found else new_writer_name()
        if not found:
            connection.execute(_SET, (name, place, name, place))
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return name
