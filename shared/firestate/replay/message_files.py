"""Reading what is to be replayed: JSON Lines of messages, or recorded transcripts."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

from firestate.client.outgoing import Outgoing
from firestate.errors import FieldProblem, InvalidMessageError
from firestate.replay.transcript_messages import is_transcript, read_transcript
from firestate.schema.messages import EVENT_TOPIC, STATE_TOPIC

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path


def read_messages(paths: Iterable[Path], start: datetime) -> list[Outgoing]:
    """Read files, and folders of *.json and *.jsonl, in order of their names.

    Runs begin at `start`. Raises InvalidMessageError with file and line for what is neither a
    message nor a transcript, and where there is nothing at all.
    """
    messages = _read(paths, start)
    if not messages:
        raise InvalidMessageError("replay", [FieldProblem("files", "hold no message")])
    return messages


def _read(paths: Iterable[Path], start: datetime) -> list[Outgoing]:
    messages: list[Outgoing] = []
    for path in paths:
        if path.is_dir():
            files = sorted(each for each in path.rglob("*") if each.suffix in {".json", ".jsonl"})
            messages += _read(files, start)
        elif _whole_file_is_transcript(path):
            messages += read_transcript(path, start)
        else:
            messages += _read_lines(path)
    return messages


def made_bad(
    messages: list[Outgoing], *, duplicate: bool, shuffle_seed: int | None
) -> list[Outgoing]:
    """Give a delivery as bad as a network's: each message twice, all in an order drawn by seed."""
    delivered = [message for message in messages for _ in range(2 if duplicate else 1)]
    if shuffle_seed is not None:
        random.Random(shuffle_seed).shuffle(delivered)  # noqa: S311 - an order, not a secret
    return delivered


def _whole_file_is_transcript(path: Path) -> bool:
    try:
        return is_transcript(json.loads(path.read_bytes()))
    except (ValueError, RecursionError):
        return False


def _read_lines(path: Path) -> list[Outgoing]:
    lines = path.read_bytes().splitlines()
    return [
        _read_line(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()
    ]


def _read_line(line: bytes, place: str) -> Outgoing:
    """One line: a message, or `{"topic": ..., "raw": ...}` for text that is to be sent as it is."""
    try:
        body: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        problem = FieldProblem(place, f"is not JSON: {error}")
        raise InvalidMessageError("replay", [problem]) from error
    if isinstance(body, dict) and isinstance(body.get("raw"), str):
        topic = body.get("topic")
        if topic in (STATE_TOPIC, EVENT_TOPIC):
            return Outgoing(topic, body["raw"].encode("utf-8", "surrogatepass"))
    elif isinstance(body, dict) and body.keys() & {"state", "deleted", "event"}:
        return Outgoing(EVENT_TOPIC if "event" in body else STATE_TOPIC, line)
    reason = "is no message: it needs `state`, `deleted` or `event`, or `topic` and `raw`"
    raise InvalidMessageError("replay", [FieldProblem(place, reason)])
