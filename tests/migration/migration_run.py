"""A migration in a test: a folder of old files, a store, and what is done with both."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firestate.migration.apply.apply_plan import apply_plan
from firestate.migration.apply.target import Target
from firestate.migration.apply.throttle import NoThrottle
from firestate.migration.plan.make_plan import PLAN
from firestate.migration.plan.plan_file import PlanLine, read_lines
from firestate.migration.plan_store import make_new_plan
from firestate.migration.sources.resolve_source import open_source
from firestate.migration.verify.undo import Undone, undo
from firestate.migration.verify.verify_plan import verify_plan
from firestate.migration.workdir import FolderWorkdir

if TYPE_CHECKING:
    from collections.abc import Callable

    from firestate.migration.apply.progress import Progress
    from firestate.migration.verify.receipts import Verified
    from firestate.stores.protocol import Store

SAMPLES = Path(__file__).parent / "samples"


@dataclass
class MigrationRun:
    """One source, its work folder, and the store that it goes to."""

    source: Path
    folder: Path
    store: Store
    label: str = ""
    work: FolderWorkdir = field(init=False)

    def __post_init__(self) -> None:
        self.work = FolderWorkdir(self.folder)

    def plan(self) -> list[PlanLine]:
        make_new_plan(open_source(str(self.source)), self.work)
        return [line for _, line in read_lines(self.folder / PLAN)]

    def apply(self, *, until: Callable[[], bool] = lambda: False) -> Progress:
        source = open_source(str(self.source))
        return apply_plan(source, self.work, self._target, until=until)

    def verify(self) -> Verified:
        return verify_plan(open_source(str(self.source)), self.work, self._target)

    def undo(self, *, until: Callable[[], bool] = lambda: False) -> Undone:
        return undo(max(self.folder.glob("receipt-*.jsonl")), self._target, until=until)

    @property
    def _target(self) -> Target:
        return Target(self.store, NoThrottle(), self.label)


def written(folder: Path, files: dict[str, Any]) -> Path:
    """Write old files, as JSON or as the bytes given; give their folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return folder


def old_state(name: str = "dev_1", **changes: Any) -> dict[str, Any]:
    """Give a state as an old file has it."""
    return {
        "agent_id": name,
        "agent_type": "Developer",
        "session_id": "s1",
        "status": "running",
        "created_at": "2025-01-04T08:00:00",
        "last_updated": "2025-01-04T09:00:00",
        "last_active": "2025-01-04T09:00:00",
        "task_history": [{"task_id": "t1", "kind": "code", "status": "done"}],
    } | changes


def old_event(**changes: Any) -> dict[str, Any]:
    """Give an event as an old log has it."""
    return {
        "type": "delegate",
        "from_agent": "dev_1",
        "from_type": "Developer",
        "to_agent": "qa_1",
        "to_type": "QA",
        "timestamp": "2025-01-04T09:00:00",
        "success": True,
    } | changes
