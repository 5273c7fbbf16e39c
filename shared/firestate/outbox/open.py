"""Opening an outbox, whatever is in the way: an agent starts all the same."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from firestate.errors import OutboxError
from firestate.outbox.aside import is_damaged, put_aside
from firestate.outbox.file import Outbox

if TYPE_CHECKING:
    from pathlib import Path

_LOG = logging.getLogger("firestate.outbox")


def open_outbox(path: Path | None, *, most_bytes: int) -> Outbox:
    """Open the outbox at `path`; where that cannot be used, say so once and keep it in memory.

    A file that is damaged is put aside under another name, not removed.
    """
    if path is None:
        return Outbox(None, most_bytes=most_bytes)
    try:
        return Outbox(path, most_bytes=most_bytes)
    except OutboxError as error:
        if is_damaged(error.__cause__):
            aside = put_aside(path)
            _LOG.error("%s; it lies in %s now, and a new one begins", error, aside)
            return Outbox(path, most_bytes=most_bytes)
        _LOG.warning("%s; it is kept in memory, and a crash of the process loses it", error)
        return Outbox(None, most_bytes=most_bytes)
