"""The functions' processes: each one an instance, to be killed, frozen and let go.

functions-framework with one worker and 8 threads each, as deployed. What is started ends with the
run, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.load.deliveries import Address
from tools.processes import HOST, free_ports

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping

    from tools.processes import Run

_START_SECONDS = 60.0


class Instance:
    """One process of a function, on a port that it keeps when it is killed and starts anew."""

    def __init__(
        self,
        run: Run,
        address: Address,
        command: list[str],
        environment: Mapping[str, str],
        logs: Path,
    ) -> None:
        self.address = address
        self._run = run
        self._logs = logs
        self._command = command
        self._environment = environment
        self._lives = 0
        self._lock = threading.Lock()
        self._process = self._start()

    @property
    def log(self) -> Path:
        """What its process has written in its present life."""
        return self._logs / f"{self.address.function}-{self.address.number}-{self._lives}"

    def kill(self) -> None:
        """Kill the process at once and start it anew; open again when it listens."""
        with self._lock:
            self.address.open = False
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = self._start()
        threading.Thread(target=self.wait_open).start()

    def freeze(self) -> None:
        """Stop the process where it is; deliveries go on coming to it."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the process go on."""
        self._signal(signal.SIGCONT)

    def wait_open(self) -> None:
        """Wait until the process listens, and open its address; RuntimeError if it does not."""
        process = self._process
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            listens = self._listens()
            with self._lock:
                if self._process is not process:
                    return  # killed meanwhile: who did that waits for the next one
                if listens or process.poll() is not None:
                    self.address.open = listens
                    break
            time.sleep(0.05)
        if self.address.open:
            return
        message = f"{self.log.name} did not start:\n{self.log.read_text()}"
        raise RuntimeError(message)

    def _listens(self) -> bool:
        port = int(self.address.url.rpartition(":")[2])
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
            return True
        return False

    def _start(self) -> subprocess.Popen[bytes]:
        self._lives += 1
        return self._run.start(self._command, self._environment, self.log)

    def _signal(self, number: signal.Signals) -> None:
        with self._lock:
            os.killpg(self._process.pid, number)


class Instances:
    """The processes of the functions of functions.yaml, of some of them more than one."""

    def __init__(
        self,
        run: Run,
        endpoints: Mapping[str, Mapping[str, str]],
        *,
        source: Path,
        environment: Mapping[str, str],
        logs: Path,
    ) -> None:
        self.started: dict[str, list[Instance]] = {name: [] for name in endpoints}
        self._run = run
        self._endpoints = endpoints
        self._source = source
        self._environment = environment
        self._logs = logs

    def use(self, numbers: Mapping[str, int]) -> None:
        """Have so many of each function take deliveries, one where no number is given.

        Those that are not there yet are started, and waited for.
        """
        missing = [
            (name, number)
            for name, there in self.started.items()
            for number in range(len(there), numbers.get(name, 1))
        ]
        ports = free_ports(len(missing)) if missing else []
        for (name, number), port in zip(missing, ports, strict=True):
            self.started[name].append(self._start(name, number, port))
        for name, there in self.started.items():
            for instance in there[: numbers.get(name, 1)]:
                instance.wait_open()
            for instance in there[numbers.get(name, 1) :]:
                instance.address.open = False

    def _start(self, name: str, number: int, port: int) -> Instance:
        endpoint = self._endpoints[name]
        kind = "cloudevent" if "eventTrigger" in endpoint else "http"
        framework = str(Path(sys.executable).parent / "functions-framework")
        command = [framework, "--target", endpoint["entryPoint"], "--source", str(self._source)]
        command += ["--signature-type", kind, "--host", HOST, "--port", str(port)]
        address = Address(name, number, f"http://{HOST}:{port}")
        return Instance(self._run, address, command, self._environment, self._logs)
