"""Run the emulators: for a command, or until Ctrl-C; and, from Python, for a test.

python -m tools.emulators exec -- COMMAND ...   runs COMMAND with the suite, and ends with its code
python -m tools.emulators serve                 keeps the suite up, and prints how to reach it

From Python: `suite()`, and each emulator alone: `firestore_emulator()`, `pubsub_emulator()`.
However a run ends, its processes end with it (`tools.processes` tells how).
"""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from tools.firebase_suite import PIPELINE, Suite, suite
from tools.java import MissingToolError
from tools.processes import ROOT, StartError
from tools.progress import Progress
from tools.standalone_emulators import firestore_emulator, pubsub_emulator

__all__ = ["Suite", "firestore_emulator", "main", "pubsub_emulator", "suite"]

_PATIENCE = 30.0


def main() -> int:
    """Do what the command line says; return the exit code."""
    arguments = _parser().parse_args()
    command: list[str] = arguments.command[1:] if arguments.what == "exec" else []
    if arguments.what == "exec" and not (command and shutil.which(command[0])):
        print(f"No such command: {' '.join(command) or '(none given)'}", file=sys.stderr)
        return 127
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with _started(arguments) as running:
            return _execute(command, running) if command else _serve(running)
    except (MissingToolError, StartError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        # Ctrl-C is how `serve` is meant to end.
        return 128 + signal.SIGINT if command else 0


@contextlib.contextmanager
def _started(arguments: argparse.Namespace) -> Iterator[Suite]:
    """Run the suite, and say while it starts that it does: unless it talks itself."""
    emulators = arguments.only.split(",")
    with contextlib.ExitStack() as stack:
        with contextlib.ExitStack() as meanwhile:
            if not arguments.verbose:
                progress = meanwhile.enter_context(Progress("Starting", sys.stderr))
                meanwhile.enter_context(progress.step("the emulators"))
            started = suite(emulators, config=arguments.config, verbose=arguments.verbose)
            running = stack.enter_context(started)
        yield running


def _execute(command: list[str], running: Suite) -> int:
    """Run `command` on this terminal; a signal to stop is its to handle."""
    child = subprocess.Popen(command, env=running.run.marked(running.environment))

    def passed_on(number: int, _frame: FrameType | None) -> None:
        # A Ctrl-C at the terminal has reached the command already; a `kill` reached only us.
        if not (number == signal.SIGINT and _in_foreground()) and child.poll() is None:
            child.send_signal(number)

    before = {n: signal.signal(n, passed_on) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _serve(running: Suite) -> int:
    for name, host in running.hosts.items():
        print(f"# {name}: {host}")
    for name, value in running.environment.items():
        print(f"export {name}={value}")
    print(f'export PATH="{ROOT / ".venv" / "bin"}:$PATH"')
    print(f"# Log: {running.log}. Stop with Ctrl-C.", flush=True)
    code = running.process.wait()
    print(f"The suite ended by itself (code {code}); see {running.log}.", file=sys.stderr)
    return 1


def _in_foreground() -> bool:
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="emulators", description="Run the emulator suite.")
    parser.add_argument("--config", type=Path, default=ROOT / "firebase.json")
    parser.add_argument("--only", default=",".join(PIPELINE), help="by default: %(default)s")
    parser.add_argument("--verbose", action="store_true", help="show what the emulators say")
    commands = parser.add_subparsers(dest="what", required=True)
    execute = commands.add_parser("exec", help="run a command with the suite")
    execute.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND ...")
    commands.add_parser("serve", help="keep the suite up until Ctrl-C")
    return parser


if __name__ == "__main__":
    sys.exit(main())
