"""The Firebase emulator suite with the project's functions, on free ports.

    with suite() as running:
        subprocess.run(command, env=os.environ | running.environment)

The suite runs from a temporary folder, which holds a firebase.json derived from the project's own
and links to the files that it names: so two suites never meet, and no logs are left in the project.
"""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.emulator_files import FIREBASE, emulator_environment
from tools.java import MissingToolError
from tools.processes import HOST, ROOT, Run, fail, follow, free_ports, wait_until

PROJECT = "demo-firestate"
"""A project id that begins with `demo-` needs no credentials, and never reaches the real cloud."""

PIPELINE = ("functions", "firestore", "pubsub")
"""What the pipeline needs. `auth` is left out unless asked for: it takes 12 s more to start."""

_SECONDS = 120.0
_READY = "All emulators ready"
_BROKEN = "Failed to load function definition"
_INTERNAL = ("hub", "logging", "eventarc", "tasks")
_KEPT_LOGS = 10


@dataclass(frozen=True)
class Suite:
    """A running suite."""

    project: str
    hosts: dict[str, str]
    """"127.0.0.1:PORT" of each emulator: functions, firestore, pubsub, auth, hosting."""
    log: Path
    process: subprocess.Popen[bytes]
    run: Run

    @property
    def environment(self) -> dict[str, str]:
        """What Google's libraries, and Firestate, need in order to use this suite."""
        names = {
            "FIRESTORE_EMULATOR_HOST": "firestore",
            "PUBSUB_EMULATOR_HOST": "pubsub",
            "FIREBASE_AUTH_EMULATOR_HOST": "auth",
        }
        return {
            "GOOGLE_CLOUD_PROJECT": self.project,
            "GCLOUD_PROJECT": self.project,
            **{name: self.hosts[key] for name, key in names.items() if key in self.hosts},
        }


@contextlib.contextmanager
def suite(
    emulators: Sequence[str] = PIPELINE,
    *,
    config: Path = ROOT / "firebase.json",
    verbose: bool = False,
) -> Iterator[Suite]:
    """Run `emulators`, set up by `config`, until the block ends; `verbose` shows what they say."""
    if not FIREBASE.exists():
        message = "The Firebase CLI is not installed: run any make target, such as `make test`."
        raise MissingToolError(message)
    with Run() as run:
        hosts = _write_config(config, emulators, run.folder)
        log = _new_log(run.folder.name)
        command = [str(FIREBASE), "emulators:start", "--config", str(run.folder / "firebase.json")]
        command += ["--project", PROJECT, "--only", ",".join(hosts)]
        environment = emulator_environment(run.folder) | {
            # Requests at a time, over all functions. Each one takes a process of its own: with the
            # CLI's default of 50 they starve each other while they start.
            "FUNCTIONS_EMULATOR_PARALLEL": str(2 * (os.cpu_count() or 2)),
            # The CLI keeps a note of its running suite in the first, and the functions' web server
            # a socket in the second: our own keep suites apart, and go when they end.
            "TMPDIR": str(run.folder),
            "XDG_RUNTIME_DIR": str(run.folder),
            # No looking for newer versions, nor for the credentials of a cloud machine.
            "NO_UPDATE_NOTIFIER": "1",
            "METADATA_SERVER_DETECTION": "none",
        }
        if parallel := os.environ.get("FUNCTIONS_EMULATOR_PARALLEL"):
            environment["FUNCTIONS_EMULATOR_PARALLEL"] = parallel
        process = run.start(command, environment, log)
        with follow(log) if verbose else contextlib.nullcontext():
            wait_until(lambda: _ready(log), process, log, seconds=_SECONDS)
            yield Suite(PROJECT, hosts, log, process, run)


def _ready(log: Path) -> bool:
    said = log.read_text(errors="replace")
    if _BROKEN in said:
        fail("could not load the functions", log)
    return _READY in said


def _write_config(config: Path, emulators: Sequence[str], folder: Path) -> dict[str, str]:
    """Write `config` with free ports into `folder`; return where each emulator will be."""
    settings: dict[str, Any] = json.loads(config.read_text())
    names = (*emulators, *_INTERNAL, "websocket")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    settings["emulators"] = {
        "ui": {"enabled": False},
        "singleProjectMode": True,
        **{name: {"host": HOST, "port": ports[name]} for name in (*emulators, *_INTERNAL)},
    }
    if "firestore" in emulators:
        settings["emulators"]["firestore"]["websocketPort"] = ports["websocket"]
    (folder / "firebase.json").write_text(json.dumps(settings))
    for name in _files_named(settings):
        link = folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(config.parent.resolve() / name)
    return {name: f"{HOST}:{ports[name]}" for name in emulators}


def _files_named(settings: dict[str, Any]) -> set[str]:
    """Return the relative paths that a firebase.json holds."""
    keys = ("source", "rules", "indexes", "public")
    paths: set[str] = set()
    for service in ("functions", "firestore", "hosting"):
        section = settings.get(service, [])
        for part in section if isinstance(section, list) else [section]:
            paths.update(part[key] for key in keys if key in part)
    return paths


def _new_log(name: str) -> Path:
    """Return the path of a log of this run's own, and forget the oldest ones."""
    logs = ROOT / ".cache" / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    oldest_first = sorted(logs.iterdir(), key=lambda path: path.stat().st_mtime)
    for old in oldest_first[: -_KEPT_LOGS + 1]:
        old.unlink(missing_ok=True)
    return logs / f"{name}.log"
