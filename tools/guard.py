"""The process that ends a run: `python -m tools.guard MARK FOLDER`.

It waits until its standard input closes, which the system does when the process that holds the
other end closes it or dies, then ends every process of this user that carries the mark, and
removes the run's folder. It runs in a session of its own, out of reach of a terminal's Ctrl-C.
"""

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
    """End what carries `mark`: ask first, kill what is left, until nothing is."""
    psutil.wait_procs(_signal(mark, signal.SIGTERM), timeout=PATIENCE)
    end = time.monotonic() + 2 * PATIENCE
    # What is being killed may just be starting another process: look until none is found.
    while (left := _signal(mark, signal.SIGKILL)) and time.monotonic() < end:
        psutil.wait_procs(left, timeout=1)


def _signal(mark: str, number: signal.Signals) -> list[psutil.Process]:
    processes = marked(mark)
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.Error:
            continue
    return processes


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
