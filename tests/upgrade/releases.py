"""A release that works on the emulators: its functions' processes, what they log and ask, its CLI.

Each release has a checkout of its own and runs from there alone: the functions from its
`functions/`, with its `shared/` before all else on PYTHONPATH. It talks to Firestore through a
counter of its own, which tells what it has asked for, whatever its code looks like.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.load.runner import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.load.deliveries import Address
    from tests.load.grpc_counter import GrpcCounter
    from tests.load.instances import Instances
    from tests.load.runner import Runner

AFTER_DAMAGE = "after a fold of all"
"""How the detail of a log line begins where a memory could not be read as it was."""

_COMMAND = "from firestate.cli import main; main()"
"""The command `firestate`: the older release cannot be run with -m."""

_CLI_SECONDS = 600.0
_COUNTED = {"derive_state": "states", "derive_event": "events"}


class CommandError(RuntimeError):
    """A command of a release failed; the message ends with what it said."""


@dataclass(frozen=True)
class Checkout:
    """Where the code of a release is, and what it is called here."""

    name: str
    root: Path

    @property
    def functions(self) -> Path:
        """The file of its functions."""
        return self.root / "functions" / "main.py"

    @property
    def environment(self) -> dict[str, str]:
        """What has Python take this release's package."""
        return {"PYTHONPATH": str(self.root / "shared")}

    def check(self) -> None:
        """Raise CommandError unless Python takes its package from there."""
        said = self._run(["-c", "import firestate; print(firestate.__file__)"], {})
        self.check_file(said.stdout.strip())

    def check_file(self, package: str) -> None:
        """Raise CommandError unless a file of the package is of this checkout."""
        if not Path(package).is_relative_to(self.root / "shared"):
            message = f"the {self.name} release is {self.root}, but the package would be {package}"
            raise CommandError(f"{message}: set PYTHONPATH to its `shared`")

    def rederive(self, running: Runner) -> Counter[str]:
        """Run its `firestate rederive`; return the outcomes."""
        return Counter(self._firestate(running, "rederive", "--json"))

    def audit(self, running: Runner) -> list[dict[str, str]]:
        """Run its `firestate audit`; return what it finds, as it prints it."""
        report = self._firestate(running, "audit", "--json", "--grace", "0")
        findings: list[dict[str, str]] = report["findings"]
        return findings

    def _firestate(self, running: Runner, *arguments: str) -> Any:
        hosts = {"FIRESTORE_EMULATOR_HOST": running.firestore_host, "GOOGLE_CLOUD_PROJECT": PROJECT}
        said = self._run(["-c", _COMMAND, *arguments], hosts)
        try:
            return json.loads(said.stdout)
        except ValueError:
            command = " ".join(("firestate", *arguments))
            message = f"{command} of the {self.name} release ended with {said.returncode}:"
            raise CommandError(f"{message}\n{said.stderr[-4_000:]}") from None

    def _run(self, arguments: list[str], more: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", *arguments],  # takes nothing from the folder that it runs in
            cwd=self.root,
            env=os.environ | self.environment | more,
            capture_output=True,
            text=True,
            check=False,
            timeout=_CLI_SECONDS,
        )


class Release:
    """A checkout at work."""

    def __init__(
        self, checkout: Checkout, functions: Instances, counter: GrpcCounter, logs: Path
    ) -> None:
        self.checkout = checkout
        self._functions = functions
        self._counter = counter
        self._logs = logs
        self._read: dict[Path, int] = {}
        self._logged: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()

    def addresses(self, function: str, number: int) -> list[Address]:
        """Return where so many of its instances of a function listen, if it has that function."""
        return [each.address for each in self._functions.started.get(function, [])[:number]]

    def tally(self) -> Counter[str]:
        """Return what it has done so far.

        states, events  counted by the functions that derive
        folds           queries for all rows of one agent: an agent's memory folded from them anew
        after_damage    those of which the log says that the memory could not be read as it was
        raised          deliveries that failed, and came again: `failures` says why
        refused         messages that were put into quarantine
        reads           billed reads of all functions
        """
        for line in self._new_lines():
            function, outcome = line.get("function", ""), line.get("outcome", "")
            if outcome == "counted" and function in _COUNTED:
                self._logged[_COUNTED[function]] += 1
            self._logged["refused"] += outcome == "quarantined"
            if outcome == "raised":
                self._logged["raised"] += 1
                where = str(line.get("raised_at", "")).rpartition(" > ")[2]
                self.failures[f"{function}: {line.get('detail', '')} ({where})"] += 1
            self._logged["after_damage"] += str(line.get("detail", "")).startswith(AFTER_DAMAGE)
        asked = Counter(
            folds=self._counter.queries("sessions", "agent_memory"),
            reads=self._counter.snapshot().reads,
        )
        return self._logged + asked

    def _new_lines(self) -> Iterator[dict[str, Any]]:
        for log in sorted(self._logs.iterdir()):
            with log.open("rb") as lines:
                lines.seek(self._read.get(log, 0))
                for line in lines:
                    if not line.endswith(b"\n"):
                        break  # not written to its end yet
                    self._read[log] = self._read.get(log, 0) + len(line)
                    if line.startswith(b"{"):
                        yield json.loads(line)
