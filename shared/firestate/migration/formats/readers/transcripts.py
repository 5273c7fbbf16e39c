"""Recorded runs of multi-agent systems, as `firestate replay` knows them: turns by named speakers.

A run becomes the last state of each speaker, terminated, and the run's events. A run has no times:
it ends at the file's date, a second for each turn.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from firestate.migration.formats.records import Draft, Facts, Record, RecordKind, Refusal
from firestate.migration.formats.synonyms import parse_time
from firestate.replay.transcript_messages import TranscriptRun, is_transcript, speaker_of
from firestate.schema.values import digest

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "transcript"

_TIMES = ("created_at", "last_updated", "last_active")


def recognises(value: Any, name: str) -> bool:  # noqa: ANN401, ARG001 - any JSON, by content alone
    """A `history` of turns, each with a speaker."""
    return is_transcript(value) and "env" not in value


def read(value: Any, facts: Facts) -> Iterator[Record | Refusal]:  # noqa: ANN401 - any JSON
    """Give the events in order, then the states in the order in which their agents first spoke."""
    session_id = f"run-{digest(value)[:12]}"
    run = TranscriptRun(session_id, facts.date - timedelta(seconds=len(value["history"])))
    states: dict[str, dict[str, Any]] = {}
    events = []
    try:
        for message in run.play(value):
            if "event" in message:
                events.append(message["event"])
            else:
                states[message["state"]["agent_id"]] = message["state"]
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        advice = "put a whole number there, and into mistake_agent a name"
        yield Refusal("mistake_step", f"cannot be read: {error}", advice)
        return
    for number, event in enumerate(events):
        yield _record(RecordKind.EVENT, f"event {number}", event, {}, ("timestamp",))
    beside = {name: each for name, each in value.items() if name != "history"}
    for name, state in states.items():
        # Every word of the run is kept, with who said it; what is said of the run, with the first.
        turns = [
            {"step": step, **turn}
            for step, turn in enumerate(value["history"])
            if speaker_of(turn) == name
        ]
        left = {"turns": turns, **({"run": beside} if beside else {})}
        beside = {}
        # The last words are among the turns; here they would be there twice. And when a turn ended
        # nobody knows.
        tasks = [
            {k: v for k, v in task.items() if k != "ended_at"} for task in state["task_history"]
        ]
        fields = state | {"memory_context": {}, "task_history": tasks}
        yield _record(RecordKind.STATE, f"speaker {name}", fields, left, ("session_id", *_TIMES))


def _record(
    kind: RecordKind,
    position: str,
    fields: dict[str, Any],
    left: dict[str, Any],
    guessed: tuple[str, ...],
) -> Record:
    draft = Draft(position, left, dict(fields), list(guessed))
    for name in (*_TIMES, "timestamp"):
        if name in draft.fields:
            draft.fields[name] = parse_time(draft.fields[name])
    timeless = {name: value for name, value in fields.items() if name not in draft.guessed}
    return draft.record(kind, timeless | {"left": left, "session_id": fields["session_id"]})
