"""What expires on the local engine: states, events and their parts, at the second sweep."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from firestate.audit.full import FullAudit
from firestate.client.outgoing import outgoing
from firestate.local.engine import LocalEngine
from firestate.queries import ALL_EVENTS, ALL_STATES
from firestate.schema.ids import EXPIRING, GLOBAL_CONFIG, STATES
from firestate.schema.values import time_text
from firestate.stores.protocol import Create, Update
from firestate.stores.sqlite_expiry import expired_statement
from firestate.stores.sqlite_schema import EXPIRY_INDEX
from tests.harness import NOW, event_message, state_message

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY = timedelta(days=1)


class Clocks:
    """A wall clock and a monotonic one."""

    def __init__(self) -> None:
        self.now = NOW
        self.elapsed = 0.0

    def pass_by(self, time: timedelta) -> None:
        self.now += time
        self.elapsed += time.total_seconds()

    def wall(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.elapsed


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def engine(clocks: Clocks) -> Iterator[LocalEngine]:
    engine = LocalEngine(clock=clocks.wall, elapsed=clocks.monotonic, fold_interval_seconds=0)
    yield engine
    engine.close()


def publish(engine: LocalEngine, clocks: Clocks, count: int) -> None:
    """Publish so many events, as many states that have ended, and one that has not."""
    at = time_text(clocks.now)
    times: Any = {"created_at": at, "last_updated": at, "last_active": at}
    for n in range(count):
        engine.publish(outgoing(event_message(f"e{n}", timestamp=at)))
        ended = state_message(1, agent_id=f"a{n}", status="terminated", **times)
        engine.publish(outgoing(ended))
    engine.publish(outgoing(state_message(1, agent_id="lives", **times)))
    engine.settle()


def stored(engine: LocalEngine) -> int:
    return sum(len(list(engine.store.query(each.query()))) for each in (ALL_STATES, ALL_EVENTS))


def test_fifty_states_and_events_go_at_the_second_sweep(
    engine: LocalEngine, clocks: Clocks
) -> None:
    """The first one remembers its time; counters stay, and the audit finds them right."""
    publish(engine, clocks, 25)
    clocks.pass_by(100 * DAY)
    counted = engine.store.read(GLOBAL_CONFIG)
    assert counted is not None
    assert engine.sweep().detail.endswith("expired 0")
    assert stored(engine) == 51
    clocks.pass_by(DAY)
    assert engine.sweep().detail.endswith("expired 50")
    assert [each.id for each in engine.store.query(ALL_STATES.query())] == ["Developer_lives_s1"]
    assert stored(engine) == 1
    engine.settle()
    after = engine.store.read(GLOBAL_CONFIG)
    assert after is not None
    assert after.data["total_agents_spawned"] == counted.data["total_agents_spawned"] == 26
    assert FullAudit(engine.store, timedelta(0)).run().findings == []
    clocks.pass_by(DAY)
    assert engine.sweep().detail.endswith("expired 0")


def test_a_clock_that_jumps_removes_nothing(engine: LocalEngine, clocks: Clocks) -> None:
    """However often it is swept, until the clock is right again."""
    publish(engine, clocks, 2)
    engine.sweep()
    clocks.pass_by(DAY)
    clocks.now += 400 * DAY
    for _ in range(3):
        assert engine.expire() == 0
        clocks.pass_by(2 * DAY)
    clocks.now -= 400 * DAY
    assert engine.expire() == 0
    assert stored(engine) == 5


def test_another_process_goes_on_where_one_has_swept(clocks: Clocks, tmp_path: Any) -> None:
    """The former sweep is remembered in the file: processes may be as short as they like."""
    for day in range(3):
        engine = LocalEngine(
            tmp_path / "state.db",
            clock=clocks.wall,
            elapsed=clocks.monotonic,
            fold_interval_seconds=0,
        )
        if not day:
            publish(engine, clocks, 1)
            clocks.pass_by(100 * DAY)
        assert engine.expire() == (2 if day == 2 else 0)
        engine.close()
        clocks.elapsed = 0.0
        clocks.now += DAY / 2


def test_a_state_that_is_renewed_as_it_is_to_go(engine: LocalEngine) -> None:
    """It stays, and those beside it go."""
    data = {"expire_at": NOW - DAY}
    engine.store.commit([Create(f"{STATES}/{n}", data) for n in range(150)])
    commit = engine.store.commit
    renewed: list[str] = []

    def first_renewed(writes: Any) -> object:
        if not renewed:
            known = engine.store.read(writes[7].path)
            assert known is not None
            renewed.append(known.path)
            commit([Update(known.path, known.token, {"expire_at": NOW + DAY})])
        return commit(writes)

    engine.store.expired._commit = first_renewed
    assert engine.store.expired.remove(EXPIRING, NOW) == 149
    assert [each.path for each in engine.store.query(ALL_STATES.query())] == renewed


def test_only_what_has_a_time_in_its_collection_expires(engine: LocalEngine) -> None:
    """Neither what has another kind of value there, nor a collection without a lifetime."""
    past = NOW - DAY
    for path, value in [
        ("quarantine/a", past),
        ("agent_states/text", str(past)),
        ("agent_states/number", 5),
        ("agent_states/none", None),
        ("agent_states/a", past),
        ("agent_states/b/legacy/0", past),
    ]:
        engine.store.commit([Create(path, {"expire_at": value})])
    engine.store._file.execute("DELETE FROM triggers")
    assert engine.store.expired.remove(EXPIRING, NOW) == 2
    assert engine.store.read("agent_states/a") is None
    assert engine.store.read("agent_states/b/legacy/0") is None


def test_what_has_not_expired_is_not_read(engine: LocalEngine) -> None:
    """A sweep reads along an index that holds only what can expire."""
    (step,) = engine.store._file.execute(
        f"EXPLAIN QUERY PLAN {expired_statement(EXPIRING)}", (1, 1, "", *EXPIRING)
    )
    assert step[-1].startswith(f"SEARCH documents USING INDEX {EXPIRY_INDEX} (<expr><?")


def test_a_process_that_does_not_live_long_looks_for_it_too(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look comes 30 s after the start, long before the first sweep."""
    waited: list[float] = []

    class Closing:
        def wait(self, seconds: float) -> bool:
            waited.append(seconds)
            return len(waited) > 2

    calls: list[str] = []
    engine._closing = Closing()  # type: ignore[assignment]
    monkeypatch.setattr(engine, "expire", lambda: calls.append("expire"))
    monkeypatch.setattr(engine, "sweep", lambda: calls.append("sweep"))
    engine._sweep_by_schedule()
    assert (waited, calls) == ([30.0, 900.0, 900.0], ["expire", "sweep"])
    engine._closing = threading.Event()
