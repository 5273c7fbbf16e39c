"""What is uploaded works by itself: a clean environment, and the repository nowhere on its path."""

from __future__ import annotations

import json
import subprocess
import venv
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from google.cloud import firestore

from firestate.schema.ids import GLOBAL_CONFIG
from firestate.stores.firestore import FirestoreStore
from tests.deploy.upload import FIREBASE_TOOLS, PROJECT, ROOT, discovered, project_in, upload
from tests.emulator.function_requests import event_headers, event_of, push_body
from tests.harness import event_message, state_message
from tools.processes import Run, answers, free_ports, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECT = {"functions-framework", "google-cloud-firestore", "google-cloud-storage", "pydantic"}
_START_SECONDS = 60.0


@pytest.fixture(scope="module")
def uploaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = project_in(tmp_path_factory.mktemp("project"))
    return upload(project, tmp_path_factory.mktemp("uploaded"))


@pytest.fixture(scope="module")
def python(uploaded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment, with what the uploaded requirements name."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    requirements = uploaded / "requirements.txt"
    options = ("-q", "--disable-pip-version-check", "-r", requirements)
    subprocess.run([python, "-m", "pip", "install", *options], check=True)
    return python


@pytest.fixture(scope="module")
def endpoints(uploaded: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return discovered(uploaded.parent, tmp_path_factory.mktemp("home"))


def alone(python: Path, folder: Path) -> dict[str, str]:
    """Give an environment in which nothing is found but Python itself."""
    return {"PATH": f"{python.parent}:/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": ""}


def test_nothing_else_is_uploaded(uploaded: Path) -> None:
    """The code and the table: nothing of a developer's folder, and no module of an older copy."""
    names = {path.name for path in uploaded.iterdir()}
    assert names == {"main.py", "functions.yaml", "requirements.txt", "firestate"}
    there = {path.relative_to(uploaded / "firestate") for path in _files(uploaded / "firestate")}
    package = ROOT / "shared" / "firestate"
    assert there == {path.relative_to(package) for path in _files(package)}


def _files(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts]


def test_requirements_are_pinned_and_few(uploaded: Path, python: Path) -> None:
    """All that is installed is pinned, as it is tested here; four packages are asked for."""
    pinned = _pins(uploaded / "requirements.txt")
    frozen = subprocess.run(
        [python, "-m", "pip", "freeze", "--disable-pip-version-check"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert set(frozen.stdout.split()) == pinned
    assert pinned <= _pins(ROOT / "tools" / "requirements.txt")
    asked, _, brought = (uploaded / "requirements.txt").read_text().partition("\n\n")
    assert {line.partition("==")[0] for line in asked.splitlines() if line[0] != "#"} == DIRECT
    assert brought


def _pins(path: Path) -> set[str]:
    return {line for line in path.read_text().splitlines() if line and not line.startswith("#")}


def test_the_repository_is_not_on_the_path(uploaded: Path, python: Path) -> None:
    """The package comes from the upload, and from nowhere else."""
    program = "import firestate; print(firestate.__file__)"
    environment = alone(python, uploaded)
    elsewhere = subprocess.run(
        [python, "-c", program],
        cwd=uploaded.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "No module named 'firestate'" in elsewhere.stderr
    there = subprocess.run(
        [python, "-c", program],
        cwd=uploaded,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(there.stdout.strip()) == uploaded / "firestate" / "__init__.py"


def test_what_the_cli_finds(endpoints: dict[str, dict[str, Any]]) -> None:
    """Each function, private where it answers to HTTP, tried again where it answers to events."""
    assert endpoints.keys() == {
        "ingest_state",
        "ingest_event",
        "dead_letter_states",
        "dead_letter_events",
        "derive_state",
        "derive_event",
        "roll_up_shards",
        "roll_up_controls",
        "sweep",
        "migrate_json_state",
    }
    for name, endpoint in endpoints.items():
        triggers = {key: value for key, value in endpoint.items() if key.endswith("Trigger")}
        ((kind, trigger),) = triggers.items()
        if kind == "httpsTrigger":
            assert trigger["invoker"] == ["private"], name
        elif kind == "eventTrigger":
            assert trigger["retry"] is True, name
        else:
            # Cloud Scheduler calls it with the token of the functions' own account.
            assert (name, kind) == ("sweep", "scheduleTrigger")
        assert endpoint["serviceAccount"] == (
            "firestate-functions@{{ params.PROJECT_ID }}.iam.gserviceaccount.com"
        )


class Deployed:
    """The uploaded functions, each started for one call, on one Firestore."""

    def __init__(self, uploaded: Path, python: Path, host: str) -> None:
        self._uploaded = uploaded
        self._python = python
        self._environment = alone(python, uploaded) | {
            "FIRESTORE_EMULATOR_HOST": host,
            "GOOGLE_CLOUD_PROJECT": PROJECT,
        }

    def call(self, endpoint: dict[str, Any], **request: Any) -> tuple[int, dict[str, Any]]:
        """Start one function, hand it a request; give its answer's status and its log line."""
        kind = "cloudevent" if "eventTrigger" in endpoint else "http"
        with self._started(endpoint["entryPoint"], kind) as (url, log):
            answer = httpx.post(url, timeout=60, **request)
            # The line is written before the answer is given.
            lines = [line for line in log.read_text().splitlines() if line.startswith("{")]
        return answer.status_code, json.loads(lines[-1])

    @contextmanager
    def _started(self, entry_point: str, kind: str) -> Iterator[tuple[str, Path]]:
        with Run() as run:
            (port,) = free_ports(1)
            log = run.folder / "log"
            command = [str(self._python.parent / "functions-framework"), "--target", entry_point]
            command += ["--signature-type", kind, "--port", str(port), "--host", "127.0.0.1"]
            command += ["--source", str(self._uploaded / "main.py")]
            process = run.start(command, self._environment, log)
            wait_until(lambda: answers(port), process, log, seconds=_START_SECONDS)
            yield f"http://127.0.0.1:{port}/", log


def test_every_entry_point_answers(
    uploaded: Path,
    python: Path,
    endpoints: dict[str, dict[str, Any]],
    firestore_host: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A state and an event go the whole way, from function to function, by their events alone."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_host)
    client = firestore.Client(project=PROJECT)
    store = FirestoreStore(client)
    deployed = Deployed(uploaded, python, firestore_host)
    called = {}

    def call(name: str, **request: Any) -> str:
        status, line = deployed.call(endpoints[name], **request)
        assert status == 200, line
        called[name] = line["outcome"]
        document: str = line.get("document", "")
        return document

    def written(path: str) -> dict[str, Any]:
        return {"content": event_of(store, path), "headers": event_headers("written")}

    def message(content: dict[str, Any]) -> dict[str, Any]:
        body = push_body(json.dumps(content).encode())
        return {"json": body, "headers": event_headers("message")}

    state = call("ingest_state", **message(state_message(1)))
    event = call("ingest_event", **message(event_message("e1")))
    call("dead_letter_states", **message(state_message(2)))
    call("dead_letter_events", **message(event_message("e2")))
    call("derive_state", **written(state))
    created = {"content": event_of(store, event), "headers": event_headers("created")}
    call("derive_event", **created)
    shard = next(client.collection(f"{GLOBAL_CONFIG}/shards").list_documents())
    call("roll_up_shards", **written(shard.path))
    client.document("system_state/controls").set({"emergency_stop": True})
    call("roll_up_controls", **written("system_state/controls"))
    call("sweep")
    status, line = deployed.call(endpoints["migrate_json_state"], json={})
    assert (status, "the request needs" in line["message"]) == (400, True)
    called["migrate_json_state"] = "asked for nothing"
    client.close()
    assert called == {
        "ingest_state": "stored",
        "ingest_event": "stored",
        "dead_letter_states": "quarantined",
        "dead_letter_events": "quarantined",
        "derive_state": "counted",
        "derive_event": "counted",
        "roll_up_shards": "folded",
        "roll_up_controls": "folded",
        "sweep": "swept",
        "migrate_json_state": "asked for nothing",
    }
    assert called.keys() == endpoints.keys()


def test_the_cli_takes_the_indexes() -> None:
    """The file is one that the Firebase CLI accepts at deploy."""
    program = """
const [tools, file] = process.argv.slice(1);
const { FirestoreApi } = require(`${tools}/lib/firestore/api`);
const api = new FirestoreApi();
api.validateSpec(api.upgradeOldSpec(JSON.parse(require("fs").readFileSync(file))));
"""
    file = ROOT / "firestore.indexes.json"
    subprocess.run(["node", "-e", program, FIREBASE_TOOLS, file], check=True)
