"""Old files, and the migration of them by the command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

PLACEHOLDER = "{SAMPLES}"
FILES_DATE = datetime(2026, 3, 1, 12, tzinfo=UTC)
"""When the old files were changed last: what they do not say is guessed by it."""

_VALUES = 50_001
"""So many are too many to stand in the document: they go into a part below it."""


def write_old_files(folder: Path) -> None:
    """Write the files, all of one date."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = {
        "agents.json": [
            old_state("sales_bot", "week_12", colour="green", shelves=[3, 4]),
            old_state("plain_bot", "session_9"),
            old_state("solo", "s1", parent="sales_bot"),
            old_state("old_hand", "shift_2", status="terminated"),
            {"agent_id": "nameless", "agent_type": "Clerk", "status": "idle"},
        ],
        "big_book.json": old_state("big_book", "year_1", pages=[0] * _VALUES),
        # Both join to Clerk_front_desk_1: the newer is planned, the older taken for one of its.
        "desk_new.json": old_state("front_desk", "1", last_updated="2025-02-02T10:00:00"),
        "desk_old.json": old_state("front", "desk_1"),
        # The document of another agent, which is there already.
        "taken.json": old_state("red_team_lead", "7", agent_type="QA"),
        "log.json": {"events": [old_event(number) for number in range(5)]},
    }
    for name, content in files.items():
        path = folder / name
        path.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
        os.utime(path, (FILES_DATE.timestamp(), FILES_DATE.timestamp()))


def old_state(agent_id: str, session_id: str, **more: Any) -> dict[str, Any]:
    """Return a state as an old file has it."""
    return {
        "agent_id": agent_id,
        "agent_type": "Clerk",
        "session_id": session_id,
        "status": "running",
        "created_at": "2025-01-04T08:00:00",
        "last_updated": "2025-01-04T09:00:00",
        "last_active": "2025-01-04T09:00:00",
        "task_history": [
            {"task_id": "t1", "kind": "file", "status": "done"},
            {"task_id": "t2", "kind": "file", "status": "failed", "error": "OSError: no paper"},
            {"task_id": "t3", "kind": "file", "status": "cancelled"},
        ],
    } | more


def old_event(number: int) -> dict[str, Any]:
    """Return an event as an old log has it."""
    return {
        "type": ("delegate", "error")[number % 2],
        "from_agent": "sales_bot",
        "from_type": "Clerk",
        "to_agent": "front_desk",
        "to_type": "Clerk",
        "session_id": "week_12",
        "timestamp": f"2025-01-04T09:0{number}:00",
        "success": number % 2 == 0,
    }


def migrate(sources: Path, work: Path, file: Path) -> None:
    """Plan, apply and verify."""
    command = "from firestate.cli import main; main()"
    options = ["--apply", "--verify", "--file", str(file), "--work", str(work), "--json"]
    done = subprocess.run(
        [sys.executable, "-c", command, "migrate", str(sources), *options],
        check=False,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 1, done.stdout  # something is refused
    found = json.loads(done.stdout)
    assert found["applied"].pop("reasons")[0].startswith("taken.json: identity")
    assert found["applied"] == {"written": 12, "superseded": 1, "refused": 1}
    assert found["verified"] == {"equal": 12, "superseded": 2, "reasons": []}


def keep_work(work: Path, kept: Path, places: dict[Path, str]) -> None:
    """Keep the files of the work folder, with names in place of the paths in them."""
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir()
    for path in sorted(work.glob("*.json*")):
        text = path.read_text(encoding="utf-8")
        for place, name in places.items():
            text = text.replace(str(place), f"{PLACEHOLDER}/{name}")
        for own in (tempfile.gettempdir(), str(kept.resolve().parent)):
            assert own not in text, f"{path.name} names a path of this machine"
        (kept / path.name).write_text(text, encoding="utf-8")
