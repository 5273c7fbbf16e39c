"""A change of a state before it is saved: a function of what is there.

Where that has moved, it is made again of what is there then.

    former state ──▶ edits of a call ──▶ history trimmed ──▶ size checked ──▶ new state, its change

Nothing here writes: a draft that is given up has changed nothing.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

from firestate.agents.state.clock import now
from firestate.agents.state.encoded_state import HISTORY, Edits, EncodedState
from firestate.agents.state.history_trimming import Former, is_short, trimmed
from firestate.errors import FieldProblem, InvalidMessageError
from firestate.limits import (
    BEGIN_RESERVE_BYTES,
    FULL_STATE_BYTES,
    MAX_HISTORY_BYTES,
    MAX_STATE_BYTES,
    MAX_VALUES,
    NEARLY_FULL,
    STATE_RESERVE_BYTES,
    VALUES_RESERVE,
)
from firestate.schema.times import check_times, history_problems

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from firestate.agents.state.encoded_state import Part

_FIRESTORE_BYTES_A_CHARACTER = 8
"""A number takes eight bytes in Firestore, and in JSON at least one character with its comma."""
_NAMES_BYTES = 1_000
"""More than the names of all fields take."""


class Room(IntEnum):
    """Bytes that a state may take after a call: what begins leaves room for what ends."""

    GROW = FULL_STATE_BYTES - STATE_RESERVE_BYTES
    BEGIN = FULL_STATE_BYTES - BEGIN_RESERVE_BYTES
    END = FULL_STATE_BYTES


_MOST_VALUES = {
    Room.GROW: MAX_VALUES - 2 * VALUES_RESERVE,
    Room.BEGIN: MAX_VALUES - VALUES_RESERVE,
    Room.END: MAX_VALUES,
}


class Draft:
    """A state under change; used by one call, on one thread."""

    def __init__(self, former: EncodedState, session_id: str) -> None:
        """Begin with the state as it is."""
        self.former = former
        self.room = Room.GROW
        self._session_id = session_id
        self._edits = Edits({}, {})
        self._made: EncodedState | None = former
        self._is_given = False

    @property
    def _new(self) -> EncodedState:
        """The state as it is by now."""
        if self._made is None:
            self._made = self.former.edited(self._edits)
        return self._made

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - whatever the field holds
        """Return a field in plain values, as it is by now; it is not to be changed."""
        return self._new[name]

    @property
    def history(self) -> list[Part]:
        """The entries of the task history, as they are by now; not to be changed."""
        return self._new.history

    def set(
        self,
        changes: Mapping[str, Any],
        *,
        checked: Collection[str] = (),
        whole: bool = False,
        plain: bool = False,
    ) -> None:
        """Change whole fields; raise InvalidMessageError that names each field that is wrong."""
        self._take(self._new.edits(changes, checked=checked, whole=whole, plain=plain))
        self._is_given = self._is_given or HISTORY in changes

    def set_active(self, time: str) -> None:
        """Say that the agent has said something at that time."""
        self._take(Edits.active_at(time))

    def remember(self, key: str, value: Any) -> None:  # noqa: ANN401 - any JSON
        """Set one entry of the memory context, in plain values."""
        self._take(self._new.remembered(key, value))

    def forget(self, key: str) -> None:
        """Remove one entry of the memory context, if it is there."""
        self._take(self._new.forgotten(key))

    def set_history(self, history: list[Part]) -> None:
        """Set the task history: entries that are there, and new ones."""
        self._take(self._new.with_history(history))

    def _take(self, edits: Edits) -> None:
        self._edits = self._edits.followed_by(edits)
        self._made = None

    def finished(self) -> EncodedState:
        """Return the new state.

        Raises InvalidMessageError: `too_early` for times yet to come, `size` for a state that is
        too large whatever is trimmed of its history.
        """
        if self._edits.history is not None or "task_totals" in self._edits.fields:
            self._check_times()
        self._trim()
        self._check_size()
        return self._new

    def change(self) -> bytes:
        """Return the change that makes the new state of the former one."""
        return self._edits.encoded(self.former)

    def _check_times(self) -> None:
        """Refuse times that ingest would refuse, before anything is kept; only in what is new."""
        at = now()
        if "task_totals" in self._edits.fields:
            check_times("state", {"task_totals": self["task_totals"]}, at)
        known = set(self.former.history)
        for place, part in enumerate(self._edits.history or ()):
            if part not in known:
                problems = history_problems([part.plain], at, self._session_id, first=place)
                if found := list(problems):
                    raise InvalidMessageError("too_early", found)

    def _trim(self) -> None:
        """Trim the history to what there is room for, and count what ended in the totals."""
        most = MAX_HISTORY_BYTES
        if not self._surely_below(self.room):
            rest = self._new.extent.size - self._new.history_size
            most = max(0, min(most, self._room - rest))
        touched = self._edits.history is not None or "task_totals" in self._edits.fields
        has_totals = touched and self._new.raw("task_totals") != b"null"
        if not has_totals and is_short(self.history, self._new.history_length, most):
            return
        untrimmed, edits = self._new, self._edits
        self._take(self._trimmed(untrimmed, most))
        # The totals may have grown by what was let go.
        if (over := self._over()) > 0:
            self._edits = edits
            self._take(self._trimmed(untrimmed, max(0, most - over)))
        # Where many are open, totals of new names may be what there is no room for.
        if self.room == Room.END and self._over() > 0:
            self._edits = edits
            self._take(self._trimmed(untrimmed, 0, named=False))

    @property
    def _room(self) -> int:
        """Bytes that the state may take; more where it is over what a call leaves free for ends.

        Such as one that a release up to 0.1 has filled, which kept nothing free.
        """
        is_over = self.room == Room.END and self.former.extent.size > Room.BEGIN
        return MAX_STATE_BYTES if is_over else self.room

    def _over(self) -> int:
        return 0 if self._surely_below(self.room) else self._new.extent.size - self._room

    def _trimmed(self, state: EncodedState, most_bytes: int, *, named: bool = True) -> Edits:
        before = state["task_totals"]
        kept, totals = trimmed(
            state.history,
            before,
            Former(self.former.history, self.former["task_totals"]),
            self._session_id,
            most_bytes=most_bytes,
            given=self._is_given,
            named=named,
        )
        edits = Edits({}, {})
        if totals != before:
            edits = state.edits({"task_totals": totals}, checked=("task_totals",))
        if len(kept) != len(state.history) or any(map(_differ, kept, state.history)):
            edits = edits._replace(history=kept)
        return edits

    def _check_size(self) -> None:
        if self._surely_below(self.room):
            return
        size, values = self._new.extent
        # What shrinks is never refused.
        most = max(self._room, min(self.former.extent.size, MAX_STATE_BYTES))
        if size > most:
            spared = (
                f" ({FULL_STATE_BYTES - most:,} of {FULL_STATE_BYTES:,} are kept free for ends)"
            )
            reason = f"takes {size:,} bytes in Firestore, at most {most:,}"
            problems = [FieldProblem("state", reason + (spared if most < FULL_STATE_BYTES else ""))]
            raise InvalidMessageError("size", [*problems, self._largest()])
        most = max(_MOST_VALUES[self.room], min(self.former.extent.values, MAX_VALUES))
        if values > most:
            reason = f"holds {values:,} values, at most {most:,} are allowed"
            raise InvalidMessageError("size", [FieldProblem("state", reason)])

    def _largest(self) -> FieldProblem:
        size, name = max((self._new.size_of(name), name) for name in self._new.names)
        return FieldProblem(f"state.{name}", f"is the largest field with {size:,} bytes")

    def _surely_below(self, size: int) -> bool:
        return _surely_below(self._new, size)


def fitting(state: EncodedState, session_id: str) -> EncodedState:
    """Return a state whose history is trimmed as far as it takes to be saved."""
    draft = Draft(state, session_id)
    draft.room = Room.END
    return draft.finished()


def is_nearly_full(state: EncodedState) -> bool:
    """Whether a state takes more than four fifths of what it may."""
    most = int(NEARLY_FULL * FULL_STATE_BYTES)
    return not _surely_below(state, most) and state.extent.size > most


def _surely_below(state: EncodedState, size: int) -> bool:
    """Whether a state takes no more bytes, looked at quickly."""
    length = state.length + _NAMES_BYTES
    return length * _FIRESTORE_BYTES_A_CHARACTER <= size and length <= MAX_VALUES


def _differ(one: Part, other: Part) -> bool:
    return one is not other
