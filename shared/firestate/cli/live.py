"""What the demo shows while it runs: agents and counters moving, in place on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from rich.console import Group
from rich.live import Live

from firestate.cli.output import table
from firestate.cli.system import system_table
from firestate.queries import BY_STATUS, EVERY_STATUS
from firestate.schema.ids import GLOBAL_CONFIG

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

    from firestate.stores.protocol import Store

_SHOWN = 15
_AROUND = 4  # a blank line, the title, the heads of the columns, the prompt below
_FIELDS = ("agent_type", "agent_id", "session_id", "status", "current_task", "last_active")


class Show:
    """A live table on a terminal, a line now and then elsewhere."""

    def __init__(self, store: Store, console: Console) -> None:
        """Take the store to watch, and where to show it."""
        self._store = store
        self._console = console
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._last_line = ""

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the terminal as it was."""
        self._live.stop()

    def update(self, done: str) -> None:
        """Show what is stored now; `done` says how far the demo has come."""
        system = self._store.read(GLOBAL_CONFIG)
        if self._console.is_terminal:
            above = Group(done, "", *self._system(system))
            left = self._console.height - len(self._console.render_lines(above)) - _AROUND
            self._live.update(Group(above, "", self._agents(left)), refresh=True)
            return
        now = system.data["current_agent_count"] if system else 0
        spawned = system.data["total_agents_spawned"] if system else 0
        line = f"{done} · agents now {now}, ever {spawned}"
        if line != self._last_line:
            self._console.print(line)
        self._last_line = line

    def _agents(self, most: int) -> Any:  # noqa: ANN401 - a rich table
        limit = max(1, min(most, _SHOWN))
        query = BY_STATUS.query({"status": EVERY_STATUS}, limit=limit, fields=_FIELDS)
        rows = [[each.data.get(name) for name in _FIELDS] for each in self._store.query(query)]
        columns = ["type", "agent", "session", "status", "task", "last active"]
        return table("Agents that were active last", columns, rows)

    def _system(self, system: Any) -> list[Any]:  # noqa: ANN401 - what is stored, or None
        return [system_table(system.data)] if system else []
