"""The command `firestate watch`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from firestate.cli.connect import FileOption, ProjectOption, open_store
from firestate.cli.output import console, fail, notes, print_json_line
from firestate.cli.terminal_text import safe_lines
from firestate.cli.watch_polling import PolledSystem, SystemPoller, changes
from firestate.cli.watch_view import Show, watch_view
from firestate.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from firestate.stores.protocol import Store

_EVERY_SECONDS = 1.0
_HEADING = "Ctrl-C ends this."


def watch(
    project: ProjectOption = None,
    file: FileOption = None,
    limit: Annotated[
        int,
        typer.Option("--limit", "-n", min=1, max=100, help="At most so many agents, and events."),
    ] = 5,
    *,
    once: Annotated[bool, typer.Option("--once", help="Show it once, and end.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, a line for each change.")
    ] = False,
) -> None:
    """Watch the system at work, until Ctrl-C: agents, events and counters, each second.

    Off a terminal it prints a line whenever a counter has changed; with --json one object for
    each agent, event, and set of counters that has.

    In a project, a look costs one billed read. When something was counted since the look before,
    it costs one more for each agent and event that is asked for: 11 at most, unless --limit says
    otherwise. What counts nothing, such as a sign of life, is shown with the next thing that does.

    Example: `firestate watch --json | grep '"kind": "event"'`
    """
    store = open_store(project, file)
    try:
        if once:
            _once(store, limit, as_json=as_json)
        elif as_json:
            _lines(SystemPoller(store, agents=limit, events=limit))
        else:
            _live(store, limit)
    except KeyboardInterrupt:
        return  # the way to end it


def _once(store: Store, limit: int, *, as_json: bool) -> None:
    look = SystemPoller(store, agents=limit, events=limit).look()
    if look.system is None:
        fail("nothing is stored yet: publish a message, or run `firestate demo`")
    if as_json:
        for each in changes(PolledSystem(), look):
            print_json_line(each)
        return
    console().print(watch_view(look, "", console()))


def _live(store: Store, limit: int) -> None:
    out = console()
    heading = _HEADING if out.is_terminal else ""
    with Show(store, out, agents=limit, events=limit) as show:
        for failure in _each_second(lambda: show.update(heading)):
            # What was seen last stays in view, and says so.
            if out.is_terminal:
                show.draw(f"As last seen; {failure}")
            else:
                _note(failure)


def _lines(looks: SystemPoller) -> None:
    def look() -> None:
        before = looks.last
        for each in changes(before, looks.look()):
            print_json_line(each)

    for failure in _each_second(look):
        _note(failure)


def _each_second(look: Callable[[], None]) -> Iterator[str]:
    """Look for ever, also where the store is away for a while: that is given, once each time."""
    told = ""
    while True:
        try:
            look()
            told = ""
        except UnavailableError as error:
            if str(error) != told:
                told = str(error)
                yield told
        time.sleep(_EVERY_SECONDS)


def _note(failure: str) -> None:
    text = safe_lines(f"firestate: {failure}; it is tried again")
    notes().print(text, style="yellow", markup=False, soft_wrap=True)
