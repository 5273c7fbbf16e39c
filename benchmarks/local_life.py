"""What the local engine costs that lives long: 5,000 sessions at rest, looked up, expired, deleted.

.venv/bin/python benchmarks/local_life.py [SESSIONS] [SECONDS]

Nothing is published while it rests. A manager is open on the file, with its sender, its watches and
the engine's own threads; counted is the processor time of the whole process. Exits 1 where a figure
is beyond its bound.
"""

from __future__ import annotations

import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from firestate import StateManager
from firestate.client.outgoing import outgoing
from firestate.local.engine import LocalEngine
from firestate.queries import BY_STATUS, CURRENT_STATUSES
from firestate.schema.values import time_text
from tests.harness import event_message, state_message, task

MOST_OF_A_CORE, MOST_LOOK_UP_MS = 0.01, 20.0
_MARKER = "secret-marker-4711"
_DAY = timedelta(days=1)


def main() -> int:
    """Measure, print; 1 if a figure is beyond its bound."""
    sessions = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 30.0  # noqa: PLR2004 - the second argument
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _fill(folder / "state.db", sessions)
        good = [*_at_rest(folder, seconds), _expired(folder / "expiry.db"), _erased(folder)]
    return 0 if all(good) else 1


def _fill(path: Path, sessions: int) -> None:
    with LocalEngine(path) as engine:
        engine.store._file.execute("PRAGMA synchronous = OFF")  # noqa: SLF001 - filled faster
        now = datetime.now(UTC)
        for number in range(sessions):
            at = time_text(now - timedelta(seconds=sessions - number))
            message = state_message(
                1, agent_id=f"a{number}", task_history=[task(n) for n in range(8)]
            )
            message["state"] |= {"created_at": at, "last_updated": at, "last_active": at}
            engine.publish(outgoing(message))
        engine.settle(600)


def _at_rest(folder: Path, seconds: float) -> list[bool]:
    with StateManager(folder=folder) as manager:
        own = [manager.start("QA", f"own_{n}") for n in range(5)]
        for each in own:
            each.save()
        manager.watch("Developer", "a1", "s1", lambda _: None)
        manager.settle()
        time.sleep(8)  # until what was just written is counted, folded and tidied
        began, used = time.monotonic(), time.process_time()
        time.sleep(seconds)
        share = (time.process_time() - used) / (time.monotonic() - began)
        print(f"at rest: {share:.2%} of a core, of {MOST_OF_A_CORE:.0%}")
        took = [_timed(lambda: manager.active(limit=1)) for _ in range(50)]
        store = manager._runtime.backend.engine.store  # type: ignore[attr-defined] # noqa: SLF001 - the store alone
        query = BY_STATUS.query({"status": CURRENT_STATUSES}, limit=1)
        alone = [_timed(lambda: list(store.query(query))) for _ in range(50)]
    print(
        f"newest state: {median(took):.1f} ms, at worst {max(took):.1f}, of {MOST_LOOK_UP_MS:.0f}; "
        f"of the store {median(alone):.1f}"
    )
    return [share < MOST_OF_A_CORE, max(took) < MOST_LOOK_UP_MS]


def _timed(work: object) -> float:
    began = time.perf_counter()
    work()  # type: ignore[operator]
    return (time.perf_counter() - began) * 1e3


def _expired(path: Path) -> bool:
    start = datetime.now(UTC)
    now = [start]

    def elapsed() -> float:
        return (now[0] - start).total_seconds()

    engine = LocalEngine(path, clock=lambda: now[0], elapsed=elapsed, fold_interval_seconds=0)
    at = time_text(start)
    for number in range(25):
        engine.publish(outgoing(event_message(f"e{number}", timestamp=at)))
        message = state_message(1, agent_id=f"a{number}", status="terminated")
        message["state"] |= {"created_at": at, "last_updated": at, "last_active": at}
        engine.publish(outgoing(message))
    engine.settle()
    now[0] += 100 * _DAY
    first = engine.expire()
    now[0] += _DAY
    second = engine.expire()
    engine.close()
    print(f"expired: {first} at the first sweep, {second} at the second")
    return (first, second) == (0, 50)


def _erased(folder: Path) -> bool:
    with StateManager(folder=folder) as manager:
        agent = manager.start("QA", "marked", "s1", current_task=_MARKER)
        for number in range(20):
            agent.remember(f"note{number}", _MARKER * (number + 1)).save()
        manager.settle()
        before = _with_marker(folder)
        manager.delete("QA", "marked", "s1")
        began = time.monotonic()
        while (left := _with_marker(folder)) and time.monotonic() - began < 60:  # noqa: PLR2004 - seconds
            time.sleep(0.2)
        took = time.monotonic() - began
    print(f"deleted: the marker was in {before}; after {took:.1f} s in {left}")
    return bool(before) and not left


def _with_marker(folder: Path) -> list[str]:
    files = [each for each in sorted(folder.iterdir()) if each.is_file()]
    return [each.name for each in files if _MARKER.encode() in each.read_bytes()]


if __name__ == "__main__":
    sys.exit(main())
