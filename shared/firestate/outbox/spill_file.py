"""A file of puts that the outbox could not take at once: records in their order, each checked.

Its process holds a lock on it, which dies with the process: then another one takes the file over.
A record is there once it is written whole, and a `kill -9` afterwards loses nothing. One that was
cut off was never acknowledged, and is not read.

What was merged elsewhere is dropped: that is noted in a record as well, so that the next process
does not merge it once more.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import struct
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

from firestate.outbox.entries import KeptState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Row = tuple[Any, ...]

_HEAD = struct.Struct("<II")  # the length of what follows, and its checksum
_DROPPED = "dropped"
_NO_ROW: Row = ("", "", None, None, 0)


class Record(NamedTuple):
    """One put: its rows, and what the outbox held of the sessions that were not spilled before."""

    number: int
    rows: list[Row]
    bases: dict[str, KeptState | None]


class SpillFile:
    """One such file, locked by this process."""

    def __init__(self, path: Path, handle: int) -> None:
        """Take the file, open and locked."""
        self.path = path
        self.records: list[Record] = []
        """What is not replayed yet."""
        self.size = 0
        self._handle = handle
        self.last = 0
        """The number of the last record that was written."""

    @classmethod
    def made(cls, outbox: Path) -> SpillFile:
        """Make one of this process, beside the outbox; raise OSError where that cannot be done."""
        while True:
            name = f"{outbox.name}.spill-{os.getpid()}-{secrets.token_hex(4)}"
            path = outbox.with_name(name)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            if (handle := _locked(path, flags)) is not None:
                return cls(path, handle)

    @classmethod
    def taken(cls, path: Path) -> SpillFile | None:
        """Take over a file whose process has ended; None where that lives, or the file is gone."""
        try:
            handle = _locked(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        if handle is None:
            return None
        found = cls(path, handle)
        for record, found.size in _records(path.read_bytes()):
            found.last = record.number
            kind, document, _, _, upto, *_ = record.rows[0] if record.rows else _NO_ROW
            if kind == _DROPPED:
                found.drop(document, upto)
            else:
                found.records.append(record)
        os.ftruncate(handle, found.size)  # of what was cut off
        return found

    def append(self, rows: list[Row], bases: dict[str, KeptState | None]) -> None:
        """Write a record; raise OSError where that cannot be done, and nothing is kept."""
        self._append(Record(self.last + 1, rows, bases))
        self.records.append(Record(self.last, rows, bases))

    def _append(self, record: Record) -> None:
        data = _written(record)
        written = 0
        try:
            written = os.write(self._handle, data)
        finally:
            if written != len(data):
                os.ftruncate(self._handle, self.size)
        if written != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self.size += len(data)
        self.last = record.number

    def drop(self, document: str, upto: int) -> None:
        """Leave out what records up to a number hold of a session, but that it was let go."""
        for record in self.records:
            if record.number <= upto:
                record.rows[:] = [
                    row for row in record.rows if row[1] != document or row[0] == "let go"
                ]

    def note_dropped(self, document: str, upto: int) -> None:
        """Have the next process leave that out as well; raise OSError where it cannot be noted."""
        row = (_DROPPED, document, None, None, upto, "", "", b"")
        self._append(Record(self.last + 1, [row], {}))

    def remove(self) -> None:
        """Remove the file: all of it has been replayed."""
        with contextlib.suppress(OSError):  # its folder is gone
            self.path.unlink()
        self.leave()

    def leave(self) -> None:
        """Leave the file to others. In the child of a fork it stays the parent's."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            with contextlib.suppress(OSError):
                os.close(handle)


def _locked(path: Path, flags: int) -> int | None:
    """Open and lock a file; None where another process has it, or has just removed it."""
    handle = os.open(path, flags, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(handle).st_nlink:
            return handle
    except BlockingIOError:
        pass
    os.close(handle)
    return None


def _written(record: Record) -> bytes:
    rows = [[*row[:-1], _text(row[-1])] for row in record.rows]
    bases = {
        document: kept and [kept.epoch, kept.revision, kept.message and _text(kept.message)]
        for document, kept in record.bases.items()
    }
    data = json.dumps([record.number, rows, bases]).encode()
    return _HEAD.pack(len(data), zlib.crc32(data)) + data


def _records(data: bytes) -> Iterator[tuple[Record, int]]:
    """Return the records, each with where it ends."""
    place = 0
    while place + _HEAD.size <= len(data):
        length, checksum = _HEAD.unpack_from(data, place)
        place += _HEAD.size
        body = data[place : place + length]
        if len(body) != length or zlib.crc32(body) != checksum:
            return
        place += length
        number, rows, bases = json.loads(body)
        record = Record(
            number,
            [(*row[:-1], _bytes(row[-1])) for row in rows],
            {
                document: kept and KeptState(kept[0], kept[1], kept[2] and _bytes(kept[2]))
                for document, kept in bases.items()
            },
        )
        yield record, place


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
