"""The process that ends a run: `python -m tools.process_guard MARK FOLDER`.

It waits until its standard input closes, which the system does when the process that holds the
other end closes it or dies, then ends every process of this user that carries the mark, and
removes the run's folder. It runs in a session of its own, out of reach of a terminal's Ctrl-C.
"""

import contextlib
import os
import shutil
import signal
import sys
import time

import psutil

from tools.processes import MARK

PATIENCE = 3.0
"""Seconds between asking to end and killing."""


def marked(mark: str) -> list[psutil.Process]:
    """Return the living processes that carry `mark`."""
    found = []
    for process in psutil.process_iter():
        try:
            if mark in process.environ().get(MARK, "").split(":"):
                found.append(process)
        except (psutil.Error, OSError):
            # Another user's process, one that has just ended, or one the system hides.
            continue
    return [process for process in found if process.pid != os.getpid()]


def sweep(mark: str) -> None:
    """End what carries `mark`: ask first, kill what is left after a while, until nothing is."""
    asked: set[int] = set()
    start = time.monotonic()
    # Anew each time, as what is ending may just have started another process. One that has ended
    # but is not yet waited for by its parent no longer has an environment, and does not count.
    while (left := marked(mark)) and time.monotonic() < start + 3 * PATIENCE:
        late = time.monotonic() > start + PATIENCE
        for process in left:
            if late or process.pid not in asked:
                asked.add(process.pid)
                with contextlib.suppress(psutil.Error):
                    process.send_signal(signal.SIGKILL if late else signal.SIGTERM)
        time.sleep(0.05)


def main() -> None:
    """Wait for the end of the run, and see to it."""
    _, mark, folder = sys.argv
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    sweep(mark)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
