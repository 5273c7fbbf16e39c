"""What is missing in the cloud, as agents and operators are told: by a server that refuses all."""

from __future__ import annotations

import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import pytest
from google.api_core.exceptions import PermissionDenied
from google.cloud.firestore_v1.types import TargetChange

from firestate import StateManager
from firestate.agents.backends.cloud import CloudBackend
from firestate.agents.backends.document_watch import Watch
from firestate.agents.backends.listen_stream import ListenStream
from firestate.errors import ConfigurationError, FirestateError, UnavailableError
from firestate.outbox.connection import Link
from tests.agents.environments import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Run

_VARIABLES = ("FIRESTORE_EMULATOR_HOST", "PUBSUB_EMULATOR_HOST")
NO_DATABASE = "The database (default) does not exist for project typo Please visit https://x"
NO_TOPIC = "Resource not found (resource=agent-state)."
NO_RIGHT = "Missing or insufficient permissions."
NO_RIGHT_TO_PUBLISH = "User not authorized to perform this action."


class Refusing(grpc.GenericRpcHandler):  # type: ignore[type-arg] # at run time it takes none
    """Answers each call with the error of its service."""

    def __init__(self, errors: dict[str, tuple[grpc.StatusCode, str]]) -> None:
        self._errors = errors

    def service(self, handler_call_details: Any) -> Any:
        service, method = handler_call_details.method.rsplit("/", 1)
        code, text = self._errors[service.rpartition(".")[2]]

        def refuse(_request: Any, context: Any) -> None:
            context.abort(code, text)

        if method == "Listen":
            return grpc.stream_stream_rpc_method_handler(refuse)
        if method in {"BatchGetDocuments", "RunQuery", "RunAggregationQuery"}:
            return grpc.unary_stream_rpc_method_handler(refuse)
        return grpc.unary_unary_rpc_method_handler(refuse)


class Missing(NamedTuple):
    """What both services answer, and what is to be said of it."""

    firestore: tuple[grpc.StatusCode, str]
    publisher: tuple[grpc.StatusCode, str]
    reading: str
    publishing: str


MISSING = [
    Missing(
        (grpc.StatusCode.NOT_FOUND, NO_DATABASE),
        (grpc.StatusCode.NOT_FOUND, NO_TOPIC),
        "project typo has no Firestore database",
        "Pub/Sub has no topic agent-state in project typo: deploy the functions first",
    ),
    Missing(
        (grpc.StatusCode.PERMISSION_DENIED, NO_RIGHT),
        (grpc.StatusCode.PERMISSION_DENIED, NO_RIGHT_TO_PUBLISH),
        "these credentials may not use Firestore in project typo: grant their account roles/",
        "these credentials may not use Pub/Sub in project typo: grant their account roles/",
    ),
]


@contextmanager
def refusing(monkeypatch: pytest.MonkeyPatch, missing: Missing) -> Iterator[None]:
    """Let the environment lead to such a server."""
    server = grpc.server(ThreadPoolExecutor(4))
    errors = {"Firestore": missing.firestore, "Publisher": missing.publisher}
    server.add_generic_rpc_handlers([Refusing(errors)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    for name in _VARIABLES:
        monkeypatch.setenv(name, f"127.0.0.1:{port}")
    try:
        yield
    finally:
        server.stop(grace=None).wait()


@pytest.mark.parametrize("missing", MISSING, ids=["database and topic", "permissions"])
def test_an_agent_goes_on_and_is_told_what_is_missing(
    missing: Missing,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    """By the connection's reason, and by one line of the log for each of the two ways."""
    caplog.set_level(logging.WARNING)
    with (
        refusing(monkeypatch, missing),
        StateManager("typo", folder=tmp_path, patience_seconds=30) as manager,
    ):
        manager.start("Father", "agent_001").update(status="busy")
        eventually(lambda: manager.connection.reading.open is False)
        eventually(lambda: manager.connection.publishing.open is False)
        connection = manager.connection
        manager.close(timeout_seconds=0)
    assert connection.reading.reason.startswith(missing.reading)
    assert connection.publishing.reason.startswith(missing.publishing)
    told = [each.getMessage() for each in caplog.records if each.name == "firestate.connection"]
    assert len([each for each in told if missing.reading in each]) == 1
    assert len([each for each in told if missing.publishing in each]) == 1


@pytest.mark.parametrize("missing", MISSING, ids=["database and topic", "permissions"])
def test_the_command_says_what_is_missing_and_exits(
    missing: Missing,
    monkeypatch: pytest.MonkeyPatch,
    run: Run,
    tmp_path: Path,
) -> None:
    """In one line, with the exit code of a setting that is wrong."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "messages.jsonl").write_text('{"topic": "agent-state", "raw": "{}"}')
    with refusing(monkeypatch, missing):
        for command, expected in (
            (["system"], missing.reading),
            (["agents"], missing.reading),
            (["flags", "set", "new", "on"], missing.reading),
            (["replay", "messages.jsonl"], missing.publishing),
        ):
            code, out, err = run(*command, "--project", "typo")
            assert code == 2, err
            assert out == ""
            assert expected in err
            assert len(err.splitlines()) == 1


def test_a_watch_that_is_refused_says_what_is_missing() -> None:
    """Firestore ends a watch inside the stream, which goes on."""
    stream = ListenStream("typo", Link("Firestore"))
    stream._watches[1] = Watch("system_state/controls", lambda _: None)
    cause = {"code": grpc.StatusCode.PERMISSION_DENIED.value[0], "message": NO_RIGHT}
    change = TargetChange(
        target_change_type=TargetChange.TargetChangeType.REMOVE, target_ids=[1], cause=cause
    )
    with pytest.raises(PermissionDenied) as caught:
        stream._target_changed(change)
    assert stream._reason(caught.value).startswith("these credentials may not use Firestore")
    assert stream._reason(OSError("no network")) == "Firestore cannot be watched: no network"


class Silent(grpc.GenericRpcHandler):  # type: ignore[type-arg] # at run time it takes none
    """Takes each stream, and answers nothing."""

    def __init__(self) -> None:
        self.streams = 0

    def service(self, _: Any) -> Any:
        def wait(_requests: Any, context: Any) -> Iterator[bytes]:
            self.streams += 1
            ended = threading.Event()
            context.add_callback(ended.set)
            ended.wait(30)
            yield from ()

        return grpc.stream_stream_rpc_method_handler(wait)


@pytest.mark.parametrize("how", ["a read took too long", "it does not answer"])
def test_a_stream_that_is_begun_anew_says_why(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Not what gRPC says of a call that was cancelled here."""
    silent = Silent()
    server = grpc.server(ThreadPoolExecutor(4), handlers=[silent])
    monkeypatch.setenv(_VARIABLES[0], f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    server.start()
    link = Link("Firestore")
    stream = ListenStream("typo", link)
    if how == "it does not answer":
        monkeypatch.setattr("firestate.agents.backends.listen_stream._FIRST_ANSWER_SECONDS", 0.5)
    stream.add(Watch("system_state/controls", lambda _: None))
    eventually(lambda: silent.streams == 1)
    if how == "a read took too long":
        stream.restart(how)
    eventually(lambda: silent.streams > 1)
    assert link.state.reason.endswith(how)
    stream.close()
    server.stop(grace=None).wait()


def test_each_variable_whose_emulator_does_not_answer_is_named(
    monkeypatch: pytest.MonkeyPatch, run: Run, tmp_path: Path
) -> None:
    """In reading and in publishing; an emulator may be started yet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    for name in _VARIABLES:
        monkeypatch.setenv(name, address)
    backend = CloudBackend("demo-x")
    with pytest.raises(UnavailableError, match=f"PUBSUB_EMULATOR_HOST={address}: start it"):
        backend.send("agent-state", [b"{}"], "w")
    with pytest.raises(UnavailableError, match=f"FIRESTORE_EMULATOR_HOST={address}: start it"):
        backend.store().read("system_state/controls")
    monkeypatch.chdir(tmp_path)
    code, _, err = run("system", "--project", "demo-x")
    assert code == 3
    assert f"FIRESTORE_EMULATOR_HOST={address}: start it" in err


def test_missing_credentials_are_told_in_reading_and_in_publishing(
    monkeypatch: pytest.MonkeyPatch, run: Run, tmp_path: Path
) -> None:
    """By the key file that is named and not there; a command says so as well."""
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    key = tmp_path / "key.json"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    backend = CloudBackend("typo")
    for act in (lambda: backend.send("agent-state", [b"{}"], "w"), backend.store):
        with pytest.raises(FirestateError) as caught:
            act()
        assert type(caught.value) is ConfigurationError
        assert f"GOOGLE_APPLICATION_CREDENTIALS={key} cannot be used" in str(caught.value)
    monkeypatch.chdir(tmp_path)
    code, _, err = run("system", "--project", "typo")
    assert code == 2
    assert f"GOOGLE_APPLICATION_CREDENTIALS={key} cannot be used" in err
