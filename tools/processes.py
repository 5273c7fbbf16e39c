"""Start processes so that none of them, nor anything that they start, outlives its run.

A run gives all its processes a mark in their environment, which their children inherit however
often they detach. A guard (`tools.process_guard`), a small process of its own, waits on a pipe
from this process, and ends everything that carries the mark once the pipe closes: when the run is
over, but also when this process is killed outright. Only where the guard itself is killed too,
something can be left.
"""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parent.parent
"""The project's folder."""

MARK = "FIRESTATE_RUN"
"""The environment variable that holds the marks: one a run, a run inside a run adds its own."""

HOST = "127.0.0.1"

_PORTS = range(20_000, 30_000)


class StartError(RuntimeError):
    """A process did not start; the message ends with the last lines that it wrote."""


class Run:
    """A set of processes and a temporary folder, which end and go together."""

    def __init__(self) -> None:
        """Make the folder and start the guard."""
        mark = secrets.token_hex(8)
        self.folder = Path(tempfile.mkdtemp(prefix="firestate-"))
        outer = os.environ.get(MARK)
        self._mark = f"{outer}:{mark}" if outer else mark
        self._started: list[subprocess.Popen[bytes]] = []
        self._guard = subprocess.Popen(
            [sys.executable, "-m", "tools.process_guard", mark, str(self.folder)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        """Return this run."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End every process of the run."""
        self.stop()

    def start(
        self,
        command: Sequence[str | Path],
        environment: Mapping[str, str],
        log: Path,
    ) -> subprocess.Popen[bytes]:
        """Start a background process in a session of its own, its output going to `log`."""
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.marked(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def marked(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return this process's environment with `environment` and the mark of the run added."""
        return os.environ | environment | {MARK: self._mark}

    def stop(self) -> None:
        """End every process that carries the mark, and remove the folder; a few seconds at most."""
        if self._guard.stdin and not self._guard.stdin.closed:
            self._guard.stdin.close()
        self._guard.wait()
        for process in self._started:
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, drawn at random so that two runs hardly ever meet.

    They lie below those that systems hand out by themselves, which an outgoing connection could
    take between this check and the start of the emulator.
    """
    ports: list[int] = []
    for port in secrets.SystemRandom().sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            ports.append(port)
        if len(ports) == count:
            return ports
    message = f"No {count} free ports between {_PORTS.start} and {_PORTS.stop}."
    raise StartError(message)


def answers(port: int) -> bool:
    """Tell whether an HTTP server answers on `port`."""
    connection = HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
    except (OSError, HTTPException):
        return False
    else:
        return True
    finally:
        connection.close()


def wait_until(
    ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, *, seconds: float
) -> None:
    """Wait for `ready`; raise where `process` ends before, or the time is up."""
    end = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None:
            fail(f"ended with code {process.returncode} before it was ready", log)
        if time.monotonic() > end:
            fail(f"was not ready after {seconds:.0f} s", log)
        time.sleep(0.05)


def fail(what: str, log: Path) -> None:
    """Raise a StartError that ends with the last lines of `log`."""
    lines = log.read_text(errors="replace").splitlines()[-25:]
    message = "\n".join((f"The emulator {what}. It said last:", *(f"  {line}" for line in lines)))
    raise StartError(message)


@contextlib.contextmanager
def follow(log: Path) -> Iterator[None]:
    """Copy to standard error what is written to `log` meanwhile."""
    over = threading.Event()

    def copy() -> None:
        with log.open(errors="replace") as lines:
            while not over.wait(0.1):
                sys.stderr.write(lines.read())

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
