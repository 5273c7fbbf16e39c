"""Work in forked processes: what hangs or dies takes nothing with it, and is reported.

A program of this package (`python -m tests.interruptions.injections`) has one thread and no open
manager. It forks a process for each piece of work, which takes milliseconds. Its main thread is the
one that gets signals, which the workers of pytest cannot promise.
"""

from __future__ import annotations

import faulthandler
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
HANG_SECONDS = float(os.environ.get("HANG_SECONDS") or 20)
"""After so long without a step a process is said to hang: long, since the machine may be busy."""
_HANGS = "Timeout ("  # how faulthandler begins its report


@dataclass
class Ended:
    """How a forked process ended, and what it had reported until then."""

    records: list[dict[str, Any]] = field(default_factory=list)
    code: int = 0
    stderr: str = ""
    hung: bool = False

    def last(self, name: str) -> Any:
        """Return the newest value that was reported under a name."""
        return next((each[name] for each in reversed(self.records) if name in each), None)


class Report:
    """Writes JSON lines into a pipe, one system call each: a kill finds a line whole or not."""

    def __init__(self, handle: int, log: int) -> None:
        self._handle = handle
        self._log = log

    def write(self, **record: Any) -> None:
        os.write(self._handle, json.dumps(record, default=str).encode() + b"\n")

    def step(self, seconds: float = HANG_SECONDS) -> None:
        """Say that the process does not hang: without the next step in time it is ended."""
        faulthandler.dump_traceback_later(seconds, exit=True, file=self._log)


@dataclass
class Process:
    """A forked process under way."""

    pid: int
    _pipe: int
    _log: IO[bytes]
    _ended: Ended = field(default_factory=Ended)
    _rest: bytes = b""

    def wait_for(self, name: str, value: object, seconds: float = HANG_SECONDS) -> bool:
        """Read until a value was reported; False where that does not come in time."""
        deadline = time.monotonic() + seconds
        while self._ended.last(name) != value:
            if not self._read(deadline - time.monotonic()):
                return False
        return True

    def end(self, seconds: float = 20 * HANG_SECONDS) -> Ended:
        """Wait for the end: a process that hangs ends itself, unless even that fails."""
        while self._read(seconds):
            pass
        ended = self._ended
        if self._pipe >= 0:  # it still has the pipe open
            os.kill(self.pid, signal.SIGKILL)
            os.close(self._pipe)
            ended.hung = True
        ended.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self._log.seek(0)
        ended.stderr = self._log.read().decode(errors="replace")
        self._log.close()
        ended.hung = ended.hung or _HANGS in ended.stderr
        return ended

    def _read(self, seconds: float) -> bool:
        if self._pipe < 0 or not select.select([self._pipe], [], [], max(seconds, 0))[0]:
            return False
        data = os.read(self._pipe, 1 << 16)
        if not data:
            os.close(self._pipe)
            self._pipe = -1
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._ended.records.extend(map(json.loads, lines))
        return True


def begin(work: Callable[[Report], None]) -> Process:
    """Fork a process that does `work`; its stderr, and the stack of a hang, are kept."""
    pipe, handle = os.pipe()
    log = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the end of the process
    pid = os.fork()
    if pid:
        os.close(handle)
        return Process(pid, pipe, log)
    code = 70
    try:
        os.close(pipe)
        os.dup2(log.fileno(), 2)
        report = Report(handle, log.fileno())
        report.step()
        work(report)
        code = 0
    except BaseException:  # noqa: BLE001 - reported; nothing of the parent may go on here
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def run(work: Callable[[Report], None]) -> Ended:
    """Do work in a forked process, and wait for its end."""
    return begin(work).end()


_PROBLEMS: list[Any] = []


def tell(**record: Any) -> None:
    """Report to the test that has begun this program, or to whoever has run it by hand."""
    if "problem" in record:
        _PROBLEMS.append(record)
    sys.stdout.write(json.dumps(record, default=str) + "\n")
    sys.stdout.flush()


def finish() -> None:
    """Say that the program has come to its end, and end it: with 1 where it has told a problem."""
    tell(finished=True)
    sys.exit(bool(_PROBLEMS))


def program(name: str, *arguments: object, seconds: float = 3_600) -> list[dict[str, Any]]:
    """Run a program of this package to its end, and return what it has told."""
    command = [sys.executable, "-m", f"tests.interruptions.{name}", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode in {0, 1}, f"{done.stdout[-2_000:]}\n{done.stderr[-8_000:]}"
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert told[-1:] == [{"finished": True}], f"{done.stdout[-2_000:]}\n{done.stderr[-8_000:]}"
    problems = [each for each in told if "problem" in each]
    assert done.returncode == bool(problems), done.stderr[-8_000:]
    for each in problems:  # whole: an assertion's text is cut
        sys.stdout.write("".join(f"{key}: {value}\n" for key, value in each.items()))
    return told
