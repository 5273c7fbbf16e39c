"""The function on the emulator suite, with a bucket: the same result as the command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from google.cloud import firestore, storage  # type: ignore[attr-defined] # a namespace

from firestate.audit.full import FullAudit
from firestate.migration.plan.make_plan import make_plan
from firestate.migration.sources.bucket import BucketSource
from firestate.stores.firestore import FirestoreStore
from firestate.stores.sqlite import SqliteStore
from tests.end_to_end.suites import BUCKET, counted
from tests.harness import everything
from tests.migration.migration_run import SAMPLES, MigrationRun, written

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tools.emulators import Suite

PREFIX = "agents/2025"
_CALL_SECONDS = 300.0
_MIGRATED = ("agent_states/", "coordination/", "system_state/controls")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples, and files that are refused."""
    folder = tmp_path_factory.mktemp("old")
    for path in SAMPLES.rglob("*"):
        if path.is_file():
            written(folder, {str(path.relative_to(SAMPLES)): path.read_bytes()})
    return written(folder, {"broken.json": b'{"status": ', "package.json": {"name": "x"}})


@pytest.fixture(scope="module")
def bucket(old: Path, storage_host: str) -> Iterator[Any]:
    """A bucket with these files, their dates kept as `gcloud storage cp --preserve-posix` does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", storage_host)
        patch.setenv("GOOGLE_CLOUD_PROJECT", "demo-firestate")
        made = storage.Client(project="demo-firestate").bucket(BUCKET)
        for path in old.rglob("*"):
            if path.is_file():
                blob = made.blob(f"{PREFIX}/{path.relative_to(old)}")
                mtime = str(int(path.stat().st_mtime))
                blob.metadata = {"goog-reserved-file-mtime": mtime}
                blob.upload_from_filename(str(path))
        yield made


@pytest.fixture(scope="module")
def store(running: Suite) -> Iterator[FirestoreStore]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIRESTORE_EMULATOR_HOST", running.hosts["firestore"])
        client = firestore.Client(project=running.project)
        yield FirestoreStore(client)
        client.close()


def call(running: Suite, **request: Any) -> httpx.Response:
    """Call the function as a person does who may."""
    url = f"http://{running.hosts['functions']}/{running.project}/us-central1/migrate_json_state"
    return httpx.post(url, json=request, timeout=_CALL_SECONDS)


def migrated(found: dict[str, Any]) -> dict[str, Any]:
    """Give what was migrated, without the mark that it is counted."""
    return {
        path: {k: v for k, v in data.items() if k != "counted"}
        for path, data in found.items()
        if path.startswith(_MIGRATED)
    }


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("bucket")
def test_the_function_does_what_the_command_does(
    running: Suite, store: FirestoreStore, old: Path, tmp_path: Path
) -> None:
    """The report, the documents and the receipt are the same; undone and applied, all is back."""
    here = MigrationRun(old, tmp_path / "work", SqliteStore(tmp_path / "state.db"))
    lines = here.plan()
    tally = here.apply()
    verified = here.verify()
    expected = migrated(everything(here.store))

    source = f"gs://{BUCKET}/{PREFIX}"
    dry = call(running, source=source)
    assert dry.status_code == 200, dry.text
    report = dry.json()["report"]
    assert report["files_not_read"] == {}
    assert sum(report["outcomes"].values()) == len(lines)
    assert {each["source"] for each in report["refusals"]} == {
        "broken.json",
        "package.json",
        "letta/bare.af",
    }
    assert migrated(everything(store)) == {}

    done = call(running, source=source, apply=True, verify=True).json()
    assert done["finished"] is True
    assert done["applied"]["written"] == tally.counts["written"]
    assert {k: v for k, v in done["verified"].items() if k != "reasons"} == verified.counts
    assert migrated(everything(store)) == expected
    assert done["receipt"].startswith(f"gs://{BUCKET}/.firestate/migration/receipt-")

    again = call(running, source=source, apply=True).json()
    assert "written" not in again["applied"]
    undone = call(running, undo=done["receipt"]).json()
    assert "left" not in undone["undone"]
    visible = [p for p, d in migrated(everything(store)).items() if not d.get("deleted")]
    assert visible == ["system_state/controls"]
    back = call(running, source=source, apply=True, verify=True).json()
    assert back["verified"]["equal"] == done["verified"]["equal"]
    counted(store)
    assert FullAudit(store).run().drift == 0


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({}, "needs"),
        ({"source": "gs://nowhere/x"}, "there is no such bucket"),
        ({"source": "/etc"}, "must be an address in a bucket"),
        ({"source": "gs://b/x", "apply": "yes"}, "apply must be true or false"),
        ({"source": "gs://b/x", "aply": True}, "the request has aply"),
        ({"undo": f"gs://{BUCKET}/none.jsonl"}, "there is no receipt"),
    ],
)
def test_a_request_that_is_wrong(running: Suite, request_: dict[str, Any], said: str) -> None:
    """It is told what is wrong, with status 400."""
    answer = call(running, **request_)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_the_command_reads_a_bucket_too(bucket: Any, old: Path, tmp_path: Path) -> None:
    """The plan of the bucket is that of the folder, but for where it is."""
    del bucket
    make_plan(BucketSource(BUCKET, PREFIX), tmp_path / "b")
    here = MigrationRun(old, tmp_path / "a", SqliteStore(None))
    here.plan()
    assert _lines(tmp_path / "a") == _lines(tmp_path / "b")


def _lines(folder: Path) -> list[Any]:
    head, *lines = (folder / "plan.jsonl").read_text().splitlines()
    return [json.loads(head)["id"], *map(json.loads, lines)]
