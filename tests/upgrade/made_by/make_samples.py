"""Fills a store and an outbox as the release of commit 30d4055 does, and writes them as texts.

It made `tests/upgrade/samples`; the README.md there says what is in them. It runs with that release
on the path, in an environment that has google-adk, from the root of this repository:

    git worktree add OLD 30d4055
    PYTHONPATH=OLD/shared:. PYTHON -m tests.upgrade.made_by.make_samples tests/upgrade/samples

Made again they hold the same, with other times, and other ids of events and writers.
"""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import firestate
from firestate.audit.full import FullAudit
from firestate.local.engine import LocalEngine
from firestate.schema.ids import QUARANTINE, STATES, Identity
from firestate.stores.protocol import Query
from tests.upgrade.made_by.by_adk import run_adk
from tests.upgrade.made_by.by_agents import (
    fill_outbox,
    hide_this_machine,
    run_families,
    run_long_history,
)
from tests.upgrade.made_by.by_messages import (
    Sender,
    publish_other_identities,
    publish_refused,
    publish_stored,
)
from tests.upgrade.made_by.by_migration import FILES_DATE, keep_work, migrate, write_old_files
from tests.upgrade.made_by.next_ids import next_id

if TYPE_CHECKING:
    from firestate.stores.protocol import Store

RELEASE = "30d4055"


def main(samples: Path) -> None:
    """Write all samples into a folder."""
    _check_release()
    _forget_surroundings()
    hide_this_machine()
    sources = (samples / "old_files").resolve()
    write_old_files(sources)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        state, work = folder / "state.db", folder / "migration"
        _fill(folder, state)
        migrate(sources, work, state)
        keep_work(work, samples / "migration", {sources: "old_files", state: "state.db"})
        identities = _settle(state)
        _write(samples / "state.sql.gz", _dump(state))
        _write(samples / "outbox.sql", _dump(fill_outbox(folder)))
    _write_json(samples / "identities.json", identities)
    made_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    times = {"made_at": made_at.isoformat(), "files_date": FILES_DATE.isoformat()}
    _write_json(samples / "times.json", times)


def _check_release() -> None:
    package = Path(firestate.__file__).parent
    command = ["git", "-C", str(package), "rev-parse", "HEAD"]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert found.startswith(RELEASE), f"{package} is of {found}"


def _forget_surroundings() -> None:
    for name in list(os.environ):
        if "EMULATOR" in name or "PROJECT" in name or name.startswith("FIRESTATE"):
            del os.environ[name]


def _fill(folder: Path, state: Path) -> None:
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=20)
    with LocalEngine(state) as engine:
        sender = Sender(engine, start)
        publish_stored(sender)
        publish_other_identities(sender)
        publish_refused(sender)
        engine.settle()
    run_families(folder)
    run_long_history(folder)
    run_adk(folder)


def _settle(state: Path) -> list[dict[str, Any]]:
    """Count all, look that it is counted well, forget the past; return the identities."""
    engine = LocalEngine(state)
    engine.settle()
    report = FullAudit(engine.store, timedelta(0)).run()
    assert report.drift == 0, report.findings
    assert report.in_flight == 0
    identities = _identities(engine.store)
    engine.close()
    with closing(sqlite3.connect(state)) as connection, connection:
        # As an hour later it would be anyway: what documents were before is most of the file.
        connection.execute("DELETE FROM past")
        connection.execute("UPDATE clock SET whole_since = last")
    return identities


def _identities(store: Store) -> list[dict[str, Any]]:
    """Return each identity that is stored, or was kept out by another one of the same document."""
    found: dict[Identity, dict[str, Any]] = {}
    for stored in store.query(Query(STATES)):
        identity = Identity(*(stored.data[name] for name in Identity._fields))
        assert stored.path == identity.state_path
        form = "deleted" if stored.data.get("deleted") else stored.data["status"]
        migrated = stored.data["epoch"] == 0
        found[identity] = {"stored": form, "quarantined": 0, "migrated": migrated}
    for kept in store.query(Query(QUARANTINE)):
        if kept.data["code"] != "identity":
            continue
        part = store.read(f"{kept.path}/parts/0000")
        assert part is not None
        message = json.loads(part.data["data"])
        body = message.get("state") or message["deleted"]
        identity = Identity(*(body[name] for name in Identity._fields))
        none = {"stored": "", "quarantined": 0, "migrated": False}
        found.setdefault(identity, none)["quarantined"] += 1
    return [
        {
            **identity._asdict(),
            "old_id": identity.state_path.removeprefix(f"{STATES}/"),
            "next_id": next_id(*identity),
            **found[identity],
        }
        for identity in sorted(found)
    ]


def _dump(path: Path) -> str:
    """Return all statements that make a database, with the marks that a dump leaves out."""
    with closing(sqlite3.connect(path)) as connection:
        lines = []
        for name in ("application_id", "user_version"):
            ((value,),) = connection.execute(f"PRAGMA {name}").fetchall()
            lines.append(f"PRAGMA {name} = {value};")
        return "\n".join([*lines, *connection.iterdump()]) + "\n"


def _write(path: Path, text: str) -> None:
    data = text.encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def _write_json(path: Path, value: object) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=1) + "\n"
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
