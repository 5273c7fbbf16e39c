"""What a command works on: a project of Google Cloud, the emulators, or a file on this machine.

Google's libraries are loaded only where they are needed: they take longer than most commands.
"""
# ruff: noqa: PLC0415 - the imports inside the functions are the point, see above

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from firestate.errors import ConfigurationError, StateFileError, UnavailableError

if TYPE_CHECKING:
    from firestate.client.outgoing import Outgoing
    from firestate.local.engine import LocalEngine
    from firestate.stores.protocol import Store

ProjectOption = Annotated[
    str | None,
    typer.Option("--project", "-p", help="Google Cloud project (or GOOGLE_CLOUD_PROJECT)."),
]
FileOption = Annotated[
    Path | None,
    typer.Option(
        "--file",
        "-f",
        dir_okay=False,
        help="File of the local engine, instead of a project (or FIRESTATE_FILE).",
    ),
]
DEFAULT_FILE = Path(".firestate/state.db")
"""Where neither a project nor a file is named: the local engine's, if it is there."""

_EMULATOR_SECONDS = 5.0
_ENGINES: dict[Path, LocalEngine] = {}
"""The command's own, one a file: closed when it ends."""


class PublishTarget(Protocol):
    """What messages are handed to: Pub/Sub, or the local engine itself."""

    def publish(self, message: Outgoing) -> object:
        """Hand the message over."""
        ...

    def flush(self) -> object:
        """Wait until all have arrived."""
        ...


def open_store(project: str | None, file: Path | None = None) -> Store:
    """Open what is stored; raise ConfigurationError where that cannot be done."""
    local = local_file(project, file)
    if local is None:
        return _cloud_store(project)
    if not local.exists():
        message = f"there is no file {local}: `firestate demo --file {local}` would fill one"
        raise ConfigurationError(message)
    try:
        return _engine(local).store
    except StateFileError as error:
        if not error.readable:
            raise
        return _engine(local, read_only=True).store


def writable_store(project: str | None, file: Path | None) -> Store:
    """Open what is stored to change it; a local engine works until the command ends."""
    local = local_file(project, file)
    if local is not None and local.exists():
        _engine(local).start()
    return open_store(project, file)


def fillable_store(project: str | None, file: Path | None) -> Store:
    """Open what is to be filled: like `writable_store`, but a local file is made if need be."""
    if local := local_file(project, file):
        _engine(local)
    return writable_store(project, file)


def open_publisher(project: str | None, file: Path | None = None) -> PublishTarget:
    """Open the way in; raise ConfigurationError where that cannot be done.

    A local file is made where there is none; its engine works until the command ends.
    """
    if local := local_file(project, file):
        engine = _engine(local)
        engine.start()
        return engine
    from firestate.client.publisher import Publisher

    check_emulator("PUBSUB_EMULATOR_HOST")
    return Publisher(project_or_fail(project))


def local_file(project: str | None, file: Path | None, *, default: bool = True) -> Path | None:
    """Give the local engine's file, or None where the command is for the cloud.

    An option goes before a variable, and a variable before the `default` file of the folder.
    Raises ConfigurationError where both options are given.
    """
    if project is not None and not project:
        raise ConfigurationError("--project names no project")
    if file and project:
        raise ConfigurationError("name either a --project or a --file, not both")
    if file or project:
        return file
    if named := os.environ.get("FIRESTATE_FILE"):
        return Path(named)
    if os.environ.get("GOOGLE_CLOUD_PROJECT") or not (default and DEFAULT_FILE.exists()):
        return None
    return DEFAULT_FILE


def close_engines() -> None:
    """Let the local engines count what the command has changed, and close their files.

    Raises UnavailableError where that cannot be done now; it is kept, and done later.
    """
    while _ENGINES:
        _, engine = _ENGINES.popitem()
        try:
            if engine.working:
                engine.settle()
        finally:
            engine.close()


def _engine(path: Path, *, read_only: bool = False) -> LocalEngine:
    from firestate.local.engine import LocalEngine

    if path not in _ENGINES:
        _ENGINES[path] = LocalEngine(path, read_only=read_only)
    return _ENGINES[path]


def _cloud_store(project: str | None) -> Store:
    from google.cloud import firestore

    from firestate.stores.firestore import FirestoreStore, translated

    check_emulator("FIRESTORE_EMULATOR_HOST")
    name = project_or_fail(project)
    with translated(f"project {name}", name):
        return FirestoreStore(firestore.Client(project=name))


def project_or_fail(
    project: str | None,
    what_to_do: str = "name one with --project or GOOGLE_CLOUD_PROJECT, or a local --file",
) -> str:
    """Give the project; raise ConfigurationError, with `what_to_do`, where none is named."""
    project = project or os.environ.get("GOOGLE_CLOUD_PROJECT")
    if not project:
        raise ConfigurationError(f"no project: {what_to_do}")
    return project


def check_emulator(variable: str) -> None:
    """Ask at once: Google's clients would try for minutes, as is right in the cloud."""
    address = os.environ.get(variable)
    if not address:
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _EMULATOR_SECONDS).close()
    except (OSError, ValueError) as error:
        from firestate.google_errors import no_emulator_text

        raise UnavailableError(no_emulator_text(variable)) from error
