"""The local engine: messages in, counters out, with nothing but a file."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from firestate.audit.full import FullAudit
from firestate.audit.message_outcomes import MessageOutcomes
from firestate.client.outgoing import Outgoing, outgoing
from firestate.errors import ConfigurationError, UnavailableError
from firestate.ingest.outcomes import Outcome
from firestate.local.engine import LocalEngine
from firestate.local.triggers import DERIVE_EVENT, RULES
from firestate.schema.ids import CONTROLS, GLOBAL_CONFIG, shard_path
from firestate.schema.messages import STATE_TOPIC
from firestate.schema.values import time_text
from firestate.stores.protocol import Add, Create
from tests.harness import NOW, event_message, state_message, task

FUNCTIONS = Path(__file__).parents[2] / "functions" / "functions.yaml"


def system(engine: LocalEngine) -> dict[str, Any]:
    stored = engine.store.read(GLOBAL_CONFIG)
    assert stored is not None
    return stored.data


def test_a_message_is_stored_when_publish_returns(engine: LocalEngine) -> None:
    """What is counted of it follows, and `settle` waits for that."""
    assert engine.publish(outgoing(state_message(1))).outcome is Outcome.STORED
    assert engine.publish(outgoing(state_message(1))).outcome is Outcome.DUPLICATE
    assert engine.publish(Outgoing(STATE_TOPIC, b"nonsense")).outcome is Outcome.QUARANTINED
    assert engine.store.read("agent_states/Developer_a_1_s1") is not None
    assert engine.store.read(GLOBAL_CONFIG) is None
    engine.settle()
    assert system(engine)["total_agents_spawned"] == 1


def test_the_triggers_are_those_of_the_cloud() -> None:
    """Each event trigger of functions.yaml has a rule here, and the other way round."""
    deployed = set()
    for endpoint in yaml.safe_load(FUNCTIONS.read_text())["endpoints"].values():
        trigger = endpoint.get("eventTrigger", {})
        if "firestore" not in trigger.get("eventType", ""):
            continue
        filters = trigger["eventFilters"] | trigger.get("eventFilterPathPatterns", {})
        collection, _, name = filters["document"].rpartition("/")
        created_only = trigger["eventType"].endswith("created")
        place = collection if name.startswith("{") else filters["document"]
        deployed.add((endpoint["entryPoint"], place, created_only))
    ours = {(rule.function, rule.path or rule.collection, rule.created_only) for rule in RULES}
    assert ours == deployed


def test_it_works_in_the_background(tmp_path: Path) -> None:
    """Started, it counts by itself, and folds once a second at most."""
    with LocalEngine(tmp_path / "state.db") as engine:
        folds = set()
        for number in range(20):
            engine.publish(outgoing(event_message(f"e{number}")))
            if stored := engine.store.read(GLOBAL_CONFIG):
                folds.add(stored.updated_at)
            time.sleep(0.1)
        engine.settle()
        folds.add(engine.store.read(GLOBAL_CONFIG).updated_at)  # type: ignore[union-attr]
        assert system(engine)["system_metrics"]["coordination"]["total"] == 20
        gaps = [later - earlier for earlier, later in itertools.pairwise(sorted(folds))]
        assert gaps
        assert min(gaps) >= timedelta(seconds=0.95)


def test_controls_reach_global_config(engine: LocalEngine) -> None:
    """What operators set is folded in."""
    engine.store.commit([Create(CONTROLS, {"emergency_stop": True, "emergency_reason": "test"})])
    engine.settle()
    assert system(engine)["emergency_stop"] is True


def test_many_threads_publish(tmp_path: Path) -> None:
    """Whoever publishes at the same time, all is counted."""
    with LocalEngine(tmp_path / "state.db") as engine:

        def work(worker: int) -> None:
            for number in range(10):
                tasks = [task(n) for n in range(number)]
                message = state_message(number, agent_id=f"w{worker % 3}", task_history=tasks)
                engine.publish(outgoing(message | {"epoch": worker + 1}))

        threads = [threading.Thread(target=work, args=[worker]) for worker in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        engine.settle()
        assert system(engine)["total_agents_spawned"] == 3
        assert system(engine)["system_metrics"]["tasks"]["completed"] == 27
        assert FullAudit(engine.store, timedelta(0)).run().findings == []


_PUBLISHING = """
import sys
from pathlib import Path
from firestate.client.outgoing import outgoing
from firestate.local.engine import LocalEngine
from firestate.stores.sqlite_values import microseconds
from tests.harness import NOW, event_message, state_message, task

file, attempt, at = sys.argv[1:]
with LocalEngine(Path(file)) as engine:
    for number in range(100_000):
        tasks = [task(n) for n in range(number % 7)]
        engine.publish(outgoing(state_message(number + 1, int(attempt) + 1, task_history=tasks)))
        engine.publish(outgoing(event_message(f"{attempt}-{number}", timestamp=at)))
        print(number, flush=True)
"""


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """What was published before a `kill -9` is stored, and the next process counts the rest."""
    file = tmp_path / "state.db"
    for attempt in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", _PUBLISHING, file, str(attempt), time_text(NOW)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout is not None
        confirmed = [process.stdout.readline() for _ in range(20 + 7 * attempt)]
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        with LocalEngine(file) as engine:
            sent = [
                outgoing(event_message(f"{attempt}-{int(number)}", timestamp=time_text(NOW)))
                for number in confirmed
            ]
            assert MessageOutcomes(engine.store).count(sent)["stored"] == len(sent)
            engine.settle()
            assert FullAudit(engine.store, timedelta(0)).run().findings == []
            assert engine.store.triggers.count() == 0


def test_a_trigger_that_fails_is_kept(engine: LocalEngine, monkeypatch: Any) -> None:
    """It is tried again later, and meanwhile holds up no other."""
    monkeypatch.setattr("firestate.local.engine.derive_event", failing)
    engine.publish(outgoing(event_message("e1")))
    engine.publish(outgoing(state_message(1)))
    with pytest.raises(UnavailableError, match=r"1 triggers.*away"):
        engine.settle(timeout_seconds=0.3)
    assert system(engine)["total_agents_spawned"] == 1
    monkeypatch.undo()
    engine.settle()
    assert system(engine)["system_metrics"]["coordination"]["total"] == 1


def failing(*_: object) -> None:
    message = "away"
    raise UnavailableError(message)


def test_the_sweep_on_the_local_engine(engine: LocalEngine) -> None:
    """What only the schedule finds is found here as well."""
    engine.publish(outgoing(state_message(1)))
    engine.publish(Outgoing(STATE_TOPIC, b"nonsense"))
    engine.settle()
    engine.sweep()
    assert system(engine)["system_metrics"]["quarantine_count"] == 1


def test_an_unknown_topic(engine: LocalEngine) -> None:
    """It is said which there are."""
    with pytest.raises(ConfigurationError, match="agent-state and agent-coordination"):
        engine.publish(Outgoing("elsewhere", b"{}"))


def test_a_trigger_that_fails_for_ever_holds_up_no_other(tmp_path: Path) -> None:
    """However often it has failed, and also where it cannot even be read."""
    with LocalEngine(tmp_path / "state.db") as engine:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("firestate.local.engine.derive_event", failing)
            engine.publish(outgoing(event_message("e1")))
            engine.publish(outgoing(event_message("e2")))
            engine.store._file.execute("UPDATE triggers SET tries = 5000 WHERE id = 1")
            engine.store._file.execute("UPDATE triggers SET data = '{' WHERE id = 2")
            time.sleep(1)
        engine.publish(outgoing(state_message(1)))
        deadline = time.monotonic() + 20
        while engine.store.read("agent_memory/Developer_a_1") is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert engine.store.triggers.count() >= 1


def test_a_fold_that_fails_for_ever_is_told(engine: LocalEngine) -> None:
    """Many triggers that want it do not hold up who waits for them."""
    for number in range(30):
        engine.store.commit([Add(shard_path(number % 8), {"spawned": 1})])
    engine.store._file.execute("UPDATE documents SET data = '{' WHERE path = ?", (shard_path(3),))
    engine.roll_up._interval_seconds = 0.2
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="shards/3 is damaged"):
        engine.settle(timeout_seconds=1)
    assert time.monotonic() - began < 5


def test_an_event_sets_off_one_trigger(engine: LocalEngine) -> None:
    """Its creation does; the mark that it is counted does not."""
    engine.publish(outgoing(event_message("e1")))
    (trigger,) = engine.store.triggers.due(datetime.now(UTC), 9, [DERIVE_EVENT])
    engine.run(trigger)
    engine.store.triggers.done([trigger])
    assert engine.store.triggers.due(datetime.now(UTC), 9, [DERIVE_EVENT]) == []


def test_half_of_a_surrogate_pair_in_an_attribute(engine: LocalEngine) -> None:
    """It is written out, and the message is kept."""
    message = Outgoing(STATE_TOPIC, b"nonsense", {"a\ud800": "\udfff"})
    assert engine.publish(message).outcome is Outcome.QUARANTINED
