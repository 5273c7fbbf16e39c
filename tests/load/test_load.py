"""The runner under load: recorded-like runs, everything twice and shuffled, flat out."""

from __future__ import annotations

import itertools
import json
import random
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from firestate.audit.full import FullAudit
from firestate.audit.message_outcomes import MessageOutcomes
from firestate.audit.repair import audit_and_repair
from firestate.client.outgoing import Outgoing, outgoing
from firestate.ingest.refusal import quarantine_id
from firestate.pipeline.roll_up import RollUp
from firestate.replay.message_files import made_bad, read_messages
from firestate.schema.ids import GLOBAL_CONFIG, quarantine_path
from firestate.stores.protocol import Query
from tests.harness import state_message
from tests.load.connections import MOST_ATTEMPTS
from tests.load.deliveries import Delivery, Fault
from tests.load.grpc_counter import peak_rate
from tests.load.runner import Runner, runner

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SPEAKERS = ("Orchestrator (thought)", "WebSurfer", "Coder_Expert", "Orchestrator (-> Coder)")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with runner(tmp_path_factory.mktemp("logs"), count=True, dead_letters=True) as started:
        yield started


def transcripts(folder: Path, runs: int, seed: int) -> Counter[str]:
    """Write runs of the two recorded shapes; give the totals, counted from the turns alone."""
    random_ = random.Random(seed)
    totals: Counter[str] = Counter()
    for number in range(runs):
        speakers = [random_.choice(_SPEAKERS) for _ in range(random_.randrange(3, 15))]
        if number % 2:
            turns = [{"role": speaker, "content": "x" * 500} for speaker in speakers]
        else:
            turns = [
                {"name": f"Agent{number}_{s.split(' (')[0]}", "role": "user", "content": "y" * 500}
                for s in speakers
            ]
        names = [turn.get("name") or turn["role"].split(" (")[0] for turn in turns]
        mistake = random_.randrange(len(turns))
        run = {
            "history": turns,
            "mistake_agent": names[mistake],
            "mistake_step": str(mistake),
            "mistake_reason": "wrong",
        }
        (folder / f"run-{seed}-{number}.json").write_text(json.dumps(run))
        totals["spawned"] += len(set(names))
        totals["spawn"] += len(set(names)) - 1
        totals["termination"] += len(set(names))
        totals["handoff"] += sum(a != b for a, b in itertools.pairwise(names))
        totals["error"] += 1
        totals["failed"] += 1
        totals["completed"] += len(names) - 1
    return totals


def totals_in(running: Runner) -> Counter[str]:
    """Give the same totals from `global_config`."""
    stored = running.store.read(GLOBAL_CONFIG)
    if stored is None:
        return Counter()
    metrics = stored.data["system_metrics"]
    by_type = {kind: each["total"] for kind, each in metrics["coordination"]["by_type"].items()}
    tasks = {name: metrics["tasks"][name] for name in ("completed", "failed")}
    return Counter({"spawned": stored.data["total_agents_spawned"], **by_type, **tasks})


def test_runs_delivered_twice_and_shuffled(running: Runner, tmp_path: Path) -> None:
    """Each message is accounted for, the audit finds no drift, and the totals are right."""
    before = totals_in(running)
    expected = transcripts(tmp_path, runs=16, seed=1)
    messages = read_messages([tmp_path], datetime.now(UTC))
    running.publish(made_bad(messages, duplicate=True, shuffle_seed=1))
    running.wait_quiet(400)

    fates = MessageOutcomes(running.store).count(messages)
    assert fates["stored"] + fates["superseded"] == len(messages)
    assert FullAudit(running.store, timedelta(0)).run().findings == []
    assert totals_in(running) - before == expected
    assert running.counter is not None
    assert peak_rate(running.counter.times_of(GLOBAL_CONFIG)) <= 1.0


def test_audit_under_traffic(running: Runner, tmp_path: Path) -> None:
    """An audit that may repair, run again and again under traffic, finds and changes nothing."""
    transcripts(tmp_path, runs=12, seed=2)
    messages = read_messages([tmp_path], datetime.now(UTC))
    running.publish(made_bad(messages, duplicate=True, shuffle_seed=2))
    roll_up = RollUp(running.store)
    busy = 0
    # Not only while something is under way: on a busy machine the deliveries begin late.
    while not running.is_quiet():
        report = audit_and_repair(running.store, roll_up)
        assert report.findings == []
        busy += report.in_flight > 0
    assert busy
    running.wait_quiet(200)
    assert FullAudit(running.store, timedelta(0)).run().findings == []


def test_bad_messages_between_good_ones(running: Runner) -> None:
    """Messages that can never succeed end in quarantine with their bytes, and none comes again."""
    bad = [
        Outgoing("agent-state", b"\xff\xfe no text"),
        Outgoing("agent-state", b" "),
        Outgoing("agent-coordination", b'{"event": {"event_id": "a/b"}}'),
        Outgoing("agent-coordination", b"[" * 100_000),
        Outgoing("agent-state", b'{"epoch": 1, "pad": "' + b"x" * 2_000_000 + b'"}'),
    ]
    running.publish(bad * 2)
    running.wait_quiet(200)
    assert MessageOutcomes(running.store).count(bad)["quarantined"] == len(bad)
    failed = {name: n for (name, what), n in running.router.counts.items() if what == "failed"}
    assert failed == {}


def test_a_message_that_always_fails_is_kept(running: Runner) -> None:
    """After its last try it is in quarantine, with its bytes."""
    message = outgoing(state_message(1, agent_id="unlucky"))
    path = quarantine_path(quarantine_id(message.topic, message.data))
    tries: list[Delivery] = []

    def fails(delivery: Delivery) -> Fault:
        if delivery.function != "ingest_state":
            return Fault.NONE
        tries.append(delivery)
        return Fault.LOST_BEFORE

    running.router.policy = fails
    running.publish([message])
    deadline = time.monotonic() + 60
    while (found := running.store.read(path)) is None:
        assert time.monotonic() < deadline, running.router.counts
        time.sleep(0.1)
    running.router.policy = lambda _: Fault.NONE
    assert found.data["code"] == "dead_letter"
    assert len(tries) >= MOST_ATTEMPTS
    kept = running.store.query(Query(f"{path}/parts"))
    assert b"".join(part.data["data"] for part in kept) == message.data
    assert MessageOutcomes(running.store).count([message])["quarantined"] == 1
