"""How an outbox stands, for people: looked at from outside, while agents use it or long after.

Nothing is made or changed, which SQLite does by itself where it opens a file in WAL mode even to
read: so it is told that there is no such journal, where there is none, and to leave the journal's
index alone, where there is one.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from firestate.errors import OutboxError
from firestate.outbox.sender_lock import is_sending
from firestate.outbox.sql import CHANGES, WAITING, WAITING_SNAPSHOTS, translated_outbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOO_LONG = timedelta(minutes=1)
_TRIES = 3
_FILES = ("", "-wal", "-shm")
_BY_TOPIC = f"""
SELECT topic, count(*), min(seq) FROM (
    SELECT topic, seq FROM ({WAITING_SNAPSHOTS})
    UNION ALL SELECT topic, seq FROM events WHERE sent_at IS NULL)
GROUP BY topic ORDER BY topic
"""  # noqa: S608 - of texts of these modules


class TopicStatus(NamedTuple):
    """How many messages of one topic wait, and since when the oldest does."""

    topic: str
    messages: int
    since: datetime


class OldestEntry(NamedTuple):
    """A message that waits; `since` is when its latest version was put."""

    document: str
    topic: str
    since: datetime
    size: int


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """What waits in an outbox, who sends it, and why it has not been sent."""

    path: Path
    topics: list[TopicStatus]
    oldest: list[OldestEntry]
    bytes_on_disk: int
    has_sender: bool
    failure: str | None
    failing_since: datetime | None

    @property
    def project(self) -> str | None:
        """The project that it is for; None for the local engine."""
        return self.path.stem.removeprefix("outbox").removeprefix("-") or None

    @property
    def messages(self) -> int:
        """How many wait."""
        return sum(each.messages for each in self.topics)

    @property
    def since(self) -> datetime | None:
        """Since when something waits that should have gone out.

        A snapshot that is replaced each second is never old: then it is since the sending fails.
        """
        if not self.topics:
            return None
        oldest = min(each.since for each in self.topics)
        return min(oldest, self.failing_since or oldest)

    def is_stuck(self, now: datetime) -> bool:
        """Whether something has waited for more than a minute."""
        return self.since is not None and now - self.since > TOO_LONG


def find_outboxes(folder: Path) -> list[Path]:
    """Give the outbox files of a folder: the local engine's, and one for each project."""
    return sorted([*folder.glob("outbox.db"), *folder.glob("outbox-*.db")])


def read_status(path: Path, *, oldest: int) -> OutboxStatus:
    """Look at an outbox, with so many of its oldest messages; raise OutboxError if it cannot be."""
    with translated_outbox(f"the outbox {path}"):
        for tries_left in reversed(range(_TRIES)):
            try:
                return _read(path, oldest)
            except sqlite3.DatabaseError:
                # Somebody has opened or closed it in between.
                if not tries_left:
                    raise
    raise AssertionError  # not reached: the last try returns or raises


def _read(path: Path, oldest: int) -> OutboxStatus:
    has_journal = path.with_name(f"{path.name}-wal").exists()
    how = "mode=ro&readonly_shm=1" if has_journal else "immutable=1"
    address = f"{path.absolute().as_uri()}?{how}"
    with closing(sqlite3.connect(address, uri=True, isolation_level=None)) as connection:
        connection.execute("BEGIN")  # all of it as of one time
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if tables and not {"snapshots", "events"} <= tables:
            message = f"{path} holds the tables of another program"
            raise OutboxError(message)
        topics, listed = [], []
        if "changes" not in tables:  # one of an earlier release
            connection.execute(CHANGES.replace("CREATE TABLE", "CREATE TEMP TABLE"))
        if tables:
            topics = [
                TopicStatus(topic, n, _time(seq)) for topic, n, seq in connection.execute(_BY_TOPIC)
            ]
            listed = [
                OldestEntry(document, topic, _time(seq), size)
                for seq, document, _, _, topic, size in connection.execute(
                    WAITING, {"limit": oldest}
                )
            ]
        failure, at = None, None
        if "sender" in tables:  # not in one of an earlier release
            for reason, seconds in connection.execute("SELECT reason, at FROM sender"):
                failure, at = reason, datetime.fromtimestamp(seconds, UTC)
    size = sum(_sizes(path))
    return OutboxStatus(path, topics, listed, size, is_sending(path), failure, at)


def _sizes(path: Path) -> Iterator[int]:
    for ending in _FILES:
        part = path.with_name(path.name + ending)
        if part.exists():
            yield part.stat().st_size


def _time(seq: int) -> datetime:
    return datetime.fromtimestamp(seq / 1e9, UTC)
