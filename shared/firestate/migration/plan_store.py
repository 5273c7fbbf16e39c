"""The plan of a migration, made or taken up, for the command and the function alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firestate.errors import ConfigurationError
from firestate.migration.apply.progress import PROGRESS
from firestate.migration.plan.make_plan import PLAN, make_plan
from firestate.migration.plan.plan_file import read_head
from firestate.migration.workdir import save_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from firestate.migration.sources.source import Source
    from firestate.migration.workdir import Workdir


def make_new_plan(
    source: Source, work: Workdir, told: Callable[[str, int], None] = lambda _name, _size: None
) -> Path:
    """Make the plan and keep it, in place of the one before.

    It goes on as the same migration, where that was of the same source: so a file that was mended,
    or is new, is undone together with the others. Progress was counted in the lines of the former.
    """
    former = find_earlier_plan(source, work)
    migration = read_head(former).id if former else None
    save_json(work, PROGRESS, {})
    plan = make_plan(source, work.folder, migration=migration, told=told)
    work.keep(PLAN)
    return plan


def find_earlier_plan(source: Source, work: Workdir) -> Path | None:
    """Give the plan that is kept, if it is one of this source that this release can read."""
    path = work.fetch(PLAN)
    if path is None:
        return None
    try:
        return path if read_head(path).source == source.label else None
    except ConfigurationError:
        return None
