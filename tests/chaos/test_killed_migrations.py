"""Migrations whose process is killed, gone on with, undone, applied again: with real functions."""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING, Any

import pytest
from google.cloud import firestore

from firestate.audit.full import FullAudit
from firestate.client.outgoing import outgoing
from firestate.migration.apply.apply_plan import apply_plan
from firestate.migration.apply.target import Target
from firestate.migration.apply.throttle import Throttle
from firestate.migration.plan.make_plan import PLAN
from firestate.migration.plan.plan_file import read_head
from firestate.migration.sources.folder import FolderSource
from firestate.migration.verify.comparison import Result
from firestate.migration.workdir import FolderWorkdir
from firestate.schema.ids import GLOBAL_CONFIG
from firestate.stores.firestore import FirestoreStore
from firestate.stores.sqlite import SqliteStore
from tests.chaos.agent_processes import Log, environment_of, process
from tests.chaos.settings import applies, migration_kills, records, seeds, tell
from tests.harness import event_message, everything, state_message
from tests.load.runner import PROJECT
from tests.migration.migration_run import MigrationRun, old_event, old_state, written

if TYPE_CHECKING:
    from pathlib import Path

    from firestate.stores.protocol import Store
    from tests.load.runner import Runner

_AGENTS = 400
_PER_FILE = 200
_RATE = 500.0


def go_on(log: Log, source: Path, work: Path) -> None:
    """Apply, from where it stopped, as the command does."""
    store = FirestoreStore(firestore.Client(project=PROJECT))
    tally = apply_plan(FolderSource(source), FolderWorkdir(work), Target(store, Throttle()))
    log.write(counts=dict(tally.counts), finished=tally.finished)


@pytest.mark.timeout(4_000)
def test_a_killed_apply_ends_as_one_that_was_not(tmp_path: Path, empty_pipeline: Runner) -> None:
    """Documents, counters and memories are the same; an undo takes back all of it, once."""
    pipeline = empty_pipeline
    chance = random.Random(seeds()[0])
    alive(pipeline)
    before, memories = counts(pipeline), memories_of(pipeline)
    moves = []
    for number in range(applies()):
        move = MigrationRun(fill(tmp_path, number), tmp_path / f"work-{number}", pipeline.store)
        move.plan()
        killed = killed_often(move, pipeline, tmp_path / f"log-{number}", chance)
        tell(f"apply {number}: killed {killed} times")
        assert documents(pipeline.store, move) == unkilled(move, tmp_path / f"{number}.db")
        moves.append(move)
    applied = checked(pipeline, moves)
    for move in moves:
        tell(f"undone: {dict(move.undo().counts)}")
    assert counts(pipeline) == before
    assert memories_of(pipeline, memories) == memories
    assert not [path for move in moves for path in documents(pipeline.store, move)]
    assert FullAudit(pipeline.store).run().drift == 0
    for move in moves:
        assert move.apply().counts == {"written": records()}
    assert checked(pipeline, moves) == applied


def alive(pipeline: Runner) -> None:
    """Let agents of the same names live, in sessions of their own."""
    for number in range(0, _AGENTS, 4):
        name = f"dev_{number}"
        pipeline.publish([outgoing(state_message(1, agent_id=name, session_id="live"))])
        pipeline.publish([outgoing(event_message(f"live-{number}", source_agent_id=name))])


def fill(folder: Path, number: int) -> Path:
    """Write as many records as are wanted: half of them states, half events."""
    half = records() // 2
    states = [
        old_state(f"dev_{n % _AGENTS}", session_id=f"s{number}-{n // _AGENTS}") for n in range(half)
    ]
    events = [
        old_event(from_agent=f"dev_{n % _AGENTS}", note=f"{number} {n // 3}") for n in range(half)
    ]
    files: dict[str, Any] = {}
    for start in range(0, half, _PER_FILE):
        files[f"{start:05}_state.json"] = states[start : start + _PER_FILE]
        files[f"{start:05}_log.json"] = events[start : start + _PER_FILE]
    return written(folder / f"old-{number}", files)


def killed_often(move: MigrationRun, pipeline: Runner, path: Path, chance: random.Random) -> int:
    """Begin an apply until one ends by itself; kill those before at random moments."""
    log, kills = Log(path), migration_kills() // applies()
    whole = records() / _RATE
    for number in range(kills + 1):
        working = process(environment_of(pipeline), go_on, path, move.source, move.folder)
        if number < kills:
            # Over all of the apply: the first part of each life is spent on starting.
            started(move, log)
            time.sleep(chance.uniform(0, 2 * whole / kills))
            working.kill()
        working.join()
    assert [line["finished"] for line in log.lines() if "finished" in line][-1]
    return kills


def started(move: MigrationRun, log: Log) -> None:
    """Wait until the process has begun to work, or has nothing left to do."""
    progress = move.folder / "progress.json"
    before = progress.stat().st_mtime_ns if progress.exists() else 0
    ended = sum(1 for _ in log.lines())
    until = time.monotonic() + 5
    while time.monotonic() < until and sum(1 for _ in log.lines()) == ended:
        if progress.exists() and progress.stat().st_mtime_ns != before:
            return
        time.sleep(0.005)


def documents(store: Store, move: MigrationRun) -> dict[str, Any]:
    """Give the documents of one migration that can be seen."""
    writer = f"migration-{read_head(move.folder / PLAN).id}"
    return {
        path: {k: v for k, v in data.items() if k != "counted"}
        for path, data in everything(store).items()
        if writer in (data.get("writer"), data.get("migrated_by")) and not data.get("deleted")
    }


def unkilled(move: MigrationRun, path: Path) -> dict[str, Any]:
    """Apply the same elsewhere, in one go; give the documents."""
    store = SqliteStore(path)
    other = MigrationRun(move.source, path.with_suffix(".work"), store)
    other.plan()
    assert other.apply().counts == {"written": records()}
    found = documents(store, other)
    store.close()
    return found


def checked(pipeline: Runner, moves: list[MigrationRun]) -> dict[str, Any]:
    """Let all be counted; see that it is exact, and all equal to the files. Give the counts."""
    found = counts(pipeline)
    assert FullAudit(pipeline.store).run().drift == 0
    for move in moves:
        assert move.verify().counts == {Result.EQUAL: records()}
    return found


def counts(pipeline: Runner) -> dict[str, Any]:
    """Give the current counts, when all is counted and folded."""
    pipeline.wait_quiet(60)
    stored = pipeline.store.read(GLOBAL_CONFIG)
    assert stored is not None
    names = ("current_agent_count", "error_counts", "active_sessions")
    shown = {name: stored.data[name] for name in names}
    metrics = {k: v for k, v in stored.data["system_metrics"].items() if k != "folded_at"}
    return json.loads(json.dumps({**shown, **metrics}, sort_keys=True, default=str))  # type: ignore[no-any-return] # of JSON


def memories_of(pipeline: Runner, only: dict[str, Any] | None = None) -> dict[str, Any]:
    """Give the agents' memories, without when they were last changed."""
    return {
        path: {k: v for k, v in data.items() if k not in ("last_memory_sync", "counted")}
        for path, data in everything(pipeline.store).items()
        if path.startswith("agent_memory/")
        and "/sessions/" not in path
        and (only is None or path in only)
    }
