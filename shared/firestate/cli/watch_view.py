"""What is shown while the system works: agents, events and counters, in place on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from rich.console import Group
from rich.live import Live
from rich.text import Text

from firestate.cli.output import table
from firestate.cli.system import emergency_text, system_table
from firestate.cli.terminal_text import safe_text
from firestate.cli.watch_polling import AGENT_FIELDS, SystemPoller, line_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from rich.console import Console, RenderableType

    from firestate.cli.watch_polling import PolledSystem
    from firestate.stores.protocol import Store, Stored

_AGENTS = 15
_EVENTS = 5
_LEAST = 3
_AROUND = 3  # the title, the heads of the columns, a blank line


class Show:
    """A live table on a terminal, a line now and then elsewhere."""

    def __init__(
        self, store: Store, console: Console, *, agents: int = _AGENTS, events: int = _EVENTS
    ) -> None:
        """Take the store to watch, where to show it, and at most how much of it."""
        self._console = console
        self._looks = SystemPoller(
            store,
            agents=agents if console.is_terminal else 0,  # a line holds counters alone
            events=events if console.is_terminal else 0,
        )
        self._live = Live(
            console=console, auto_refresh=False, transient=True, vertical_overflow="crop"
        )
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
        if self._live.is_started:
            # Else the last picture would be printed once more, whole, and scroll a small terminal.
            self._live.update("")
        self._live.stop()

    def update(self, done: str) -> None:
        """Show what is stored now; `done` says how far things have come."""
        self._looks.look()
        self.draw(done)

    def draw(self, done: str) -> None:
        """Show once more what was seen last, which needs no store."""
        look = self._looks.last
        if self._console.is_terminal:
            self._live.update(watch_view(look, done, self._console), refresh=True)
            return
        line = safe_text(f"{done} · {line_of(look)}" if done else line_of(look))
        if line != self._last_line:
            self._console.print(line, markup=False, soft_wrap=True)
        self._last_line = line


def watch_view(look: PolledSystem, done: str, console: Console) -> RenderableType:
    """Give all that was seen, fit for the height of a terminal: what is too much is left out.

    The counters come last: where nothing else helps, the terminal crops those.
    """
    parts: list[RenderableType] = [Text(safe_text(done)), ""] if done else []
    if look.system is None:
        return Group(*parts, "Nothing is stored yet.")
    if look.system.data.get("emergency_stop"):
        parts += [emergency_text(look.system.data), ""]
    counters = system_table(look.system.data)
    left = None
    if console.is_terminal:
        used = len(console.render_lines(Group(*parts, counters))) + 2 * _AROUND
        left = console.height - used
    events = look.events[: _fitting(left, 2)]
    if left is not None:
        left -= len(events)
    agents = look.agents[: _fitting(left, 1)]
    if look.agents:
        parts += [_agents(agents), ""]
    if look.events:
        parts += [_events(events), ""]
    return Group(*parts, counters)


def _fitting(left: int | None, share: int) -> int | None:
    return None if left is None else max(_LEAST, left // share)


def _agents(listed: Sequence[Stored]) -> Any:  # noqa: ANN401 - a rich table
    rows = [[each.data.get(name) for name in AGENT_FIELDS] for each in listed]
    columns = ["type", "agent", "session", "status", "task", "last active"]
    return table("Agents that were active last", columns, rows)


def _events(listed: Sequence[Stored]) -> Any:  # noqa: ANN401 - a rich table
    names = ("timestamp", "event_type", "source_agent_id", "target_agent_id")
    rows = [[*(each.data.get(name) for name in names), _outcome(each.data)] for each in listed]
    columns = ["when", "event", "source", "target", "outcome"]
    return table("Newest events", columns, rows)


def _outcome(event: dict[str, Any]) -> str:
    if event.get("success"):
        return "ok"
    return str(event.get("error_message") or ("cancelled" if event.get("cancelled") else "failed"))
