"""One suite of the Firebase CLI, with a bucket, for all of these tests: it takes long to start."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import gcp_storage_emulator.server as storage_emulator
import httpx
import psutil
import pytest
from google.cloud import firestore

from firestate.stores.firestore import FirestoreStore
from tests.end_to_end.suites import BUCKET, counted
from tools.emulators import Suite, suite
from tools.firebase_suite import PIPELINE
from tools.processes import HOST, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECONDS = 60.0


@pytest.fixture(scope="session")
def storage_host() -> Iterator[str]:
    """Where the buckets are, of which there is one."""
    (port,) = free_ports(1)
    server = storage_emulator.create_server(HOST, port, in_memory=True, default_bucket=BUCKET)
    server.start()
    yield f"http://{HOST}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def started(storage_host: str) -> Iterator[Suite]:
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            # By this the functions find the bucket.
            patch.setenv("STORAGE_EMULATOR_HOST", storage_host)
            running = stack.enter_context(suite((*PIPELINE, "auth")))
        yield running
        started_by_us = running.process.pid
    assert not psutil.pid_exists(started_by_us)


@pytest.fixture(scope="module")
def running(started: Suite) -> Suite:
    """The suite, with nothing stored."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIRESTORE_EMULATOR_HOST", started.hosts["firestore"])
        client = firestore.Client(project=started.project)
        counted(FirestoreStore(client))
        client.close()
    httpx.delete(
        f"http://{started.hosts['firestore']}/emulator/v1/projects/{started.project}"
        "/databases/(default)/documents",
        timeout=_SECONDS,
    ).raise_for_status()
    return started
