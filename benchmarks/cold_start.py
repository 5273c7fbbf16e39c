"""CPU time of a function from a fresh process to its first event answered, beside a bare one.

.venv/bin/python benchmarks/cold_start.py [RUNS]

Runs alternate, so that a machine that gets slower does so for both; the ratio is of medians.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
from google.cloud import firestore

sys.path.insert(0, str(Path(__file__).parents[1]))

from firestate.schema.ids import shard_path
from firestate.stores.firestore import FirestoreStore
from firestate.stores.protocol import Add
from tests.emulator.function_requests import event_of
from tests.harness import Pipeline, event_message, state_message, task
from tools.emulators import firestore_emulator

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
FUNCTIONS = HERE.parent / "functions" / "main.py"
PROJECT = "demo-cold"
LIMIT = 1.3


def main() -> int:
    """Measure each function; 1 if any is over the limit."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with firestore_emulator() as host:
        os.environ |= {"FIRESTORE_EMULATOR_HOST": host, "GOOGLE_CLOUD_PROJECT": PROJECT}
        worst = 0.0
        for function, requests in _first_events(runs).items():
            pairs = [
                (
                    cold_start("bare", HERE / "bare" / "main.py", request),
                    cold_start(function, FUNCTIONS, request),
                )
                for request in requests
            ]
            bare, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
            worst = max(worst, ours / bare)
            print(f"{function:14} {ours:.3f} s, bare {bare:.3f} s of CPU: {ours / bare:.2f}")
    print(f"worst ratio {worst:.2f}, limit {LIMIT}, median of {runs} alternating runs")
    return int(worst > LIMIT)


def cold_start(target: str, source: Path, request: dict[str, Any]) -> float:
    """Start the function's process, send it one event, give the CPU seconds it took."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "functions-framework"), "--target", target]
    command += ["--source", str(source), "--signature-type", "cloudevent"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    # Compiled once and kept, as a deployed image has it, whatever this shell is set to.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(
        command,
        env=environment | {"WORKERS": "1", "THREADS": "8"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in _attempts():
            with contextlib.suppress(httpx.TransportError):
                answer = httpx.post(f"http://127.0.0.1:{port}", timeout=30, **request)
                answer.raise_for_status()
                return _cpu_seconds(process.pid)
    finally:
        process.terminate()
        process.wait()
    raise TimeoutError(target)


def _attempts() -> Iterator[None]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        yield
        time.sleep(0.02)


def _cpu_seconds(pid: int) -> float:
    parent = psutil.Process(pid)
    times = [each.cpu_times() for each in (parent, *parent.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def _first_events(runs: int) -> dict[str, list[dict[str, Any]]]:
    """Give events for each function that all make it do its whole work: read and commit."""
    store = FirestoreStore(firestore.Client(project=PROJECT))
    pipeline = Pipeline(store)
    requests: dict[str, list[dict[str, Any]]] = {}
    tasks = [task(n) for n in range(5)]
    for run in range(runs):
        for message, function in (
            (state_message(1, agent_id=f"agent-{run}", task_history=tasks), "derive_state"),
            (event_message(f"event-{run}"), "derive_event"),
        ):
            document = pipeline.send(message).document
            requests.setdefault(function, []).append(_change(store, document))
        new_state = state_message(1, agent_id=f"new-{run}", task_history=tasks)
        requests.setdefault("ingest_state", []).append(_push(new_state))
        requests.setdefault("ingest_event", []).append(_push(event_message(f"new-{run}")))
        # Each shard's first write: there is something to fold each time.
        shard = shard_path(run)
        store.commit([Add(shard, {"spawned": 1})])
        requests.setdefault("roll_up", []).append(_change(store, shard))
    return requests


def _push(message: dict[str, Any]) -> dict[str, Any]:
    data = base64.b64encode(json.dumps(message).encode()).decode()
    kind = "google.cloud.pubsub.topic.v1.messagePublished"
    return {"json": {"message": {"data": data}}, "headers": _headers(kind)}


def _change(store: FirestoreStore, document: str) -> dict[str, Any]:
    headers = _headers("google.cloud.firestore.document.v1.written")
    return {
        "content": event_of(store, document),
        "headers": headers | {"content-type": "application/protobuf"},
    }


def _headers(kind: str) -> dict[str, str]:
    return {"ce-id": "1", "ce-specversion": "1.0", "ce-type": kind, "ce-source": "//benchmark"}


if __name__ == "__main__":
    sys.exit(main())
