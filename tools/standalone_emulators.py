"""The Firestore and the Pub/Sub emulator alone, for tests: started in a second or two.

    with firestore_emulator() as host, pubsub_emulator() as topics: ...

Each yields "127.0.0.1:PORT" of an emulator of its own, empty, on a free port, gone afterwards.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tools.emulator_files import prepare
from tools.java import java_environment
from tools.processes import HOST, Run, answers, free_ports, wait_until

_SECONDS = 60.0


@contextlib.contextmanager
def firestore_emulator(
    functions_emulator: str | None = None, *, rules: Path | None = None
) -> Iterator[str]:
    """Run a Firestore emulator; it sends its triggers to `functions_emulator` ("HOST:PORT").

    Without `rules` every request is let through, as it always is for the server libraries.
    """
    with Run() as run:
        (port,) = free_ports(1)
        jar = prepare("firestore", run.folder)
        command: list[str | Path] = ["java", "-Duser.language=en", "-jar", jar]
        command += ["--host", HOST, "--port", str(port)]
        if functions_emulator:
            command += ["--functions_emulator", functions_emulator]
        if rules:
            command += ["--rules", rules.resolve()]
        yield _started(run, command, port)


@contextlib.contextmanager
def pubsub_emulator() -> Iterator[str]:
    """Run a Pub/Sub emulator."""
    with Run() as run:
        (port,) = free_ports(1)
        script = prepare("pubsub", run.folder)
        yield _started(run, [script, f"--host={HOST}", f"--port={port}"], port)


def _started(run: Run, command: list[str | Path], port: int) -> str:
    log = run.folder / "emulator.log"
    process = run.start(command, java_environment(), log)
    wait_until(lambda: answers(port), process, log, seconds=_SECONDS)
    return f"{HOST}:{port}"
