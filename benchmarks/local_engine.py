"""Events a second of the local engine, settled, beside plain inserts of the same rows.

.venv/bin/python benchmarks/local_engine.py [EVENTS]

Both write to a file with the same durability (WAL, each commit on the disk when it returns). The
plain inserts put in what the engine leaves behind: a row for each event, with its whole document,
each in a commit of its own. Rounds alternate; the ratio is of medians. Then the engine once more
under a profiler: where its time goes.
"""

from __future__ import annotations

import cProfile
import pstats
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

from firestate.audit.full import FullAudit
from firestate.client.outgoing import outgoing
from firestate.local.engine import LocalEngine
from firestate.schema.ids import EVENTS
from firestate.schema.values import time_text
from firestate.stores.protocol import Query
from firestate.stores.sqlite_values import encode
from tests.harness import event_message

if TYPE_CHECKING:
    from firestate.client.outgoing import Outgoing

ROUNDS = 5
AGENTS = 20
START = datetime.now(UTC)
# Of a frame in the profile, by the name of its file: the part of the work that it is.
PARTS = {
    "execute": "SQLite",
    "sleep": "waiting for the roll-up's second",
    "schema/": "reading and checking messages",
    "pydantic": "reading and checking messages",
    "stores/": "documents to text and back, limits",
    "json/": "documents to text and back, limits",
    "derive/": "memory",
    "counters/": "counters",
    "pipeline/": "pipeline",
    "ingest/": "pipeline",
    "local/": "pipeline",
}


def main() -> int:
    """Measure and print; 1 if anything was counted wrong."""
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000
    messages = [_message(number) for number in range(events)]
    engine_seconds, plain_seconds = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS):
            file = Path(folder) / f"{number}.db"
            seconds, rows = _through_the_engine(file, messages)
            engine_seconds.append(seconds)
            plain_seconds.append(_plain(Path(folder) / f"{number}-plain.db", rows))
        _where_time_goes(Path(folder) / "profiled.db", messages)
    ours, plain = statistics.median(engine_seconds), statistics.median(plain_seconds)
    print(f"local engine: {events / ours:,.0f} events a second, stored, counted and folded")
    print(f"plain inserts: {events / plain:,.0f} a second")
    print(f"ratio {ours / plain:.1f}, median of {ROUNDS} alternating rounds")
    return 0


def _message(number: int) -> Outgoing:
    at = START + timedelta(milliseconds=number)
    source = f"agent-{number % AGENTS}"
    return outgoing(event_message(f"e{number}", timestamp=time_text(at), source_agent_id=source))


def _through_the_engine(
    file: Path, messages: list[Outgoing]
) -> tuple[float, list[tuple[str, str]]]:
    engine = LocalEngine(file)
    began = time.perf_counter()
    _published_and_settled(engine, messages)
    seconds = time.perf_counter() - began
    if findings := FullAudit(engine.store, timedelta(0)).run().findings:
        raise SystemExit(f"counted wrong: {findings[0]}")
    rows = [(each.path, encode(each.data)) for each in engine.store.query(Query(EVENTS))]
    engine.close()
    return seconds, rows


def _published_and_settled(engine: LocalEngine, messages: list[Outgoing]) -> None:
    for message in messages:
        engine.publish(message)
    engine.settle()


def _plain(file: Path, rows: list[tuple[str, str]]) -> float:
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE documents (path TEXT NOT NULL UNIQUE, data TEXT NOT NULL)")
    began = time.perf_counter()
    for row in rows:
        connection.execute("INSERT INTO documents VALUES (?, ?)", row)
    seconds = time.perf_counter() - began
    connection.close()
    return seconds


def _where_time_goes(file: Path, messages: list[Outgoing]) -> None:
    engine = LocalEngine(file)
    profile = cProfile.Profile()
    profile.runcall(_published_and_settled, engine, messages)
    engine.close()
    spent: Counter[str] = Counter()
    for (path, _, name), (_, _, own, _, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined] # untyped
        place = f"{path} {name}"
        part = next((part for mark, part in PARTS.items() if mark in place), "the rest of Python")
        spent[part] += own
    total = sum(spent.values())
    for part, seconds in spent.most_common():
        print(f"{seconds / total:6.0%}  {part}")


if __name__ == "__main__":
    sys.exit(main())
