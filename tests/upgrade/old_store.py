"""The samples of a store, an outbox and a migration as an older release has left them.

    samples = open_samples(tmp_path)
    engine = LocalEngine(samples.state, clock=lambda: MADE_AT)

The times in them stand still while the calendar goes on: whoever gives the engine no clock of that
time finds in some months that states have expired, and that messages come too late.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from firestate.schema.ids import STATES, Identity

SAMPLES = Path(__file__).parent / "samples"
PLACEHOLDER = "{SAMPLES}"

_TIMES: dict[str, str] = json.loads((SAMPLES / "times.json").read_text(encoding="utf-8"))
MADE_AT = datetime.fromisoformat(_TIMES["made_at"])
"""Later than all that the samples hold, by less than an hour after the last of it."""
FILES_DATE = datetime.fromisoformat(_TIMES["files_date"])
"""When the old files were changed last: the migration guesses by it, and git does not keep it."""


@dataclass(frozen=True, slots=True)
class SampleFolder:
    """Where a test has its own samples: they are its to change.

    `state` is the local engine's file, `outbox` an outbox, `sources` the folder of old files, and
    `work` the one with plan, progress and receipt of their migration into `state`.
    """

    state: Path
    outbox: Path
    sources: Path
    work: Path

    @property
    def receipt(self) -> Path:
        """The receipt of the migration."""
        return min(self.work.glob("receipt-*.jsonl"))  # a test that verifies writes later ones

    @property
    def target(self) -> str:
        """The label of the store that was migrated to: progress and receipt are of it alone."""
        return f"file {self.state}"


@dataclass(frozen=True, slots=True)
class SampleIdentity:
    """An agent in a session, and what there is of it.

    `stored` is the status of its state, `deleted`, or empty where another identity has the
    document; `quarantined` counts the messages that were refused for that. `old_path` and
    `next_path` are where the release that made them stores it, and where later ones do.
    """

    identity: Identity
    old_path: str
    next_path: str
    stored: str
    quarantined: int
    migrated: bool

    @property
    def moves(self) -> bool:
        """Whether later releases store it under another id."""
        return self.old_path != self.next_path


def open_samples(folder: Path) -> SampleFolder:
    """Make files of the samples in an empty folder."""
    here = folder.resolve()
    samples = SampleFolder(
        here / "state.db", here / "outbox.db", here / "old_files", here / "migration"
    )
    _load(samples.state, gzip.decompress((SAMPLES / "state.sql.gz").read_bytes()).decode())
    _load(samples.outbox, (SAMPLES / "outbox.sql").read_text(encoding="utf-8"))
    shutil.copytree(SAMPLES / "old_files", samples.sources)
    for path in samples.sources.iterdir():
        os.utime(path, (FILES_DATE.timestamp(), FILES_DATE.timestamp()))
    samples.work.mkdir()
    for path in (SAMPLES / "migration").iterdir():
        text = path.read_text(encoding="utf-8")
        own = text.replace(PLACEHOLDER, json.dumps(str(here))[1:-1])
        (samples.work / path.name).write_text(own, encoding="utf-8")
    return samples


def identities() -> list[SampleIdentity]:
    """Return all that `state` holds states of, or messages that another's document kept out."""
    listed: list[dict[str, Any]] = json.loads(
        (SAMPLES / "identities.json").read_text(encoding="utf-8")
    )
    return [
        SampleIdentity(
            Identity(*(each[name] for name in Identity._fields)),
            f"{STATES}/{each['old_id']}",
            f"{STATES}/{each['next_id']}",
            each["stored"],
            each["quarantined"],
            each["migrated"],
        )
        for each in listed
    ]


def _load(path: Path, statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(statements)
