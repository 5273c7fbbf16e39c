"""Web workers on one folder: requests for the same sessions, to processes that share them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from firestate import StateManager
from firestate.audit.full import FullAudit
from tests.agents.environments import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[2]
_WORKERS, _REQUESTS, _SESSIONS, _AT_ONCE = 2, 200, 20, 50


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Serve tests/local/web_app by uvicorn; give the port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    log = (tmp_path / "log").open("wb")
    arguments = ["--port", str(number), "--workers", str(_WORKERS), "--log-level", "warning"]
    server = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "tests.local.web_app:app", *arguments],
        cwd=_ROOT,
        env=os.environ | {"WEB_APP_FOLDER": str(tmp_path / "folder")},
        stdout=log,
        stderr=subprocess.STDOUT,
    )

    workers: set[str] = set()

    def all_answer() -> bool:
        assert server.poll() is None, (tmp_path / "log").read_text()
        with suppress(OSError):
            workers.add(request(number, f"/begin/{time.monotonic_ns()}"))
        return len(workers) == _WORKERS

    eventually(all_answer, 60)
    yield number
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) is not None
    log.close()


def request(port: int, path: str) -> str:
    """Ask once, over a connection of its own; give the worker that answers."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
        assert answer.status == 200, body
        return body
    finally:
        connection.close()


def test_every_request_is_answered_and_every_task_counted(port: int, tmp_path: Path) -> None:
    paths = [f"/s{number % _SESSIONS}/t{number}" for number in range(_REQUESTS)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        assert len(list(pool.map(lambda path: request(port, path), paths))) == _REQUESTS
    with StateManager("", folder=tmp_path / "folder") as manager:
        found: dict[str, set[str]] = {}
        for number in range(_SESSIONS):
            state = manager.agent("Web", "server", f"s{number}").state
            found[f"s{number}"] = {entry["task_id"] for entry in state.task_history}
        expected = {
            f"s{session}": {f"t{number}" for number in range(session, _REQUESTS, _SESSIONS)}
            for session in range(_SESSIONS)
        }
        assert found == expected
        assert manager.settle(60)
        (kind,) = manager.learned("Web", "server").value.kinds
        assert kind.tries == kind.successes > _REQUESTS
        assert FullAudit(manager._runtime.backend.store()).run().findings == []
