"""The state of an agent, each value as the JSON that goes into its messages.

A save happens often and changes little, so what has not changed is neither checked, nor encoded,
nor written again: a note among thousands costs as much as the first. What has changed is looked at
in its bytes, where C is fast: what they show to be in order goes through, and all else is checked
in full, by the schema that the functions use.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic_core import PydanticSerializationError, from_json, to_json

from firestate.agents.state.json_values import not_json, to_json_values
from firestate.agents.state.message_encoding import checked_state
from firestate.errors import InvalidMessageError
from firestate.limits import MAX_DEPTH, MAX_KEY_BYTES, MAX_NAMES
from firestate.schema.enums import AgentStatus, TaskStatus
from firestate.schema.models import AgentState
from firestate.schema.strict_json import depth_of
from firestate.schema.values import Extent, extent, stored_size, utf8_bytes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

_NOT_JSON = (PydanticSerializationError, UnicodeError, RecursionError, ValueError)
_WORDS = {
    "status": {to_json(each.value) for each in AgentStatus},
    "task_status": {to_json(each.value) for each in TaskStatus} | {b"null"},
}
MEMORY, HISTORY = "memory_context", "task_history"
_USERS_OWN = frozenset(
    {
        "performance_metrics",
        "agent_config",
        "collaboration_context",
        "current_task",
    }
)
_NUMBERS = frozenset({int, float})
_KEYS = {name: b"%s:" % to_json(name) for name in AgentState.model_fields}
_NO_MARKS = bytes(set(range(256)) - set(b'[]{}",'))
_LONG_NUMBER = b"0" * 19  # 64 bits hold 18 digits for certain
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_LONG_TEXT = b"x" * (MAX_KEY_BYTES + 1)
_TEXTS = bytes(byte if byte == ord('"') else ord("x") for byte in range(256))


class Part:
    """One value of a state: its JSON, and what is known of it once it was asked for."""

    __slots__ = ("_extent", "_plain", "json")

    def __init__(self, encoded: bytes, plain: Any = None) -> None:  # noqa: ANN401 - any JSON
        """Take the JSON, and what it says where that is known."""
        self.json = encoded
        self._plain = plain
        self._extent: Extent | None = None

    @classmethod
    def of(cls, value: Any) -> Part:  # noqa: ANN401 - what has a JSON form
        """Encode a value; raise InvalidMessageError where it has no JSON form."""
        return cls(_encoded("state", value))

    @property
    def plain(self) -> Any:  # noqa: ANN401 - any JSON
        """The value as JSON has it; it is not to be changed."""
        if self._plain is None:
            self._plain = json.loads(self.json)
        return self._plain

    @property
    def extent(self) -> Extent:
        """Its bytes and values, as Firestore counts them."""
        if self._extent is None:
            self._extent = extent(self.plain)
        return self._extent


class Edits(NamedTuple):
    """What is new in a state: fields, entries of the memory (None: removed), the history."""

    fields: dict[str, Part]
    memory: dict[str, Part | None]
    history: list[Part] | None = None

    @classmethod
    def active_at(cls, time: str) -> Edits:
        """Return what is new where the agent has said something at that time."""
        part = _part(time)
        return cls({"last_updated": part, "last_active": part}, {})

    def followed_by(self, later: Edits) -> Edits:
        """Return what is new with both."""
        return Edits(
            {**self.fields, **later.fields},
            {**self.memory, **later.memory},
            self.history if later.history is None else later.history,
        )

    def encoded(self, former: EncodedState) -> bytes:
        """Return the change that makes of `former` what is new, as outbox/changes has it."""
        parts = []
        if self.fields:
            fields = b",".join([_KEYS[name] + part.json for name, part in self.fields.items()])
            parts.append(b'"set":{%s}' % fields)
        if self.memory:
            parts.append(b'"memory":{%s}' % b",".join(map(_memory_change, self.memory.items())))
        if self.history is not None:
            runs = _runs(self.history, former.history)
            parts.append(b'"history":[%s]' % b",".join(runs))
        return b"{%s}" % b",".join(parts)


def _memory_change(change: tuple[str, Part | None]) -> bytes:
    key, part = change
    return b"%s:[%s]" % (to_json(key), b"" if part is None else part.json)


def _runs(new: list[Part], former: list[Part]) -> Iterable[bytes]:
    """Yield the runs of `former` that make up `new`, and its other entries."""
    # Most often it is the former one without its oldest, and with what is new behind it.
    gone = former.index(new[0]) if new and new[0] in former else len(former)
    if (kept := len(former) - gone) > 0 and new[:kept] == former[gone:]:
        yield b"[%d,%d]" % (gone, len(former))
        new, former = new[kept:], []
    places = {id(part): place for place, part in enumerate(former)}
    first = last = -1
    for part in new:
        place = places.get(id(part), -1)
        if place >= 0 and place == last:
            last += 1
            continue
        if first >= 0:
            yield b"[%d,%d]" % (first, last)
        first, last = (place, place + 1) if place >= 0 else (-1, -1)
        if place < 0:
            yield part.json
    if first >= 0:
        yield b"[%d,%d]" % (first, last)


class _Found:
    """What is found of changes while they are looked at."""

    __slots__ = ("doubtful", "fields", "history", "malformed", "memory", "unseen")

    def __init__(self, *, doubtful: bool) -> None:
        """Nothing yet; `doubtful`: the schema has to have a look."""
        self.doubtful = doubtful
        self.fields: dict[str, Part] = {}
        self.memory: dict[str, Part | None] = {}
        self.history: list[Part] | None = None
        self.unseen: list[bytes] = []
        """The JSON of what is new, to be looked at for what Firestore refuses."""
        self.malformed: dict[str, Any] = {}
        """Values that have not the form of their field, for the schema to refuse."""


class EncodedState:
    """Immutable; `edited` returns others."""

    __slots__ = (
        "_fields",
        "_memory_extent",
        "_other_length",
        "_total",
        "history",
        "history_length",
        "memory",
    )

    def __init__(
        self,
        fields: dict[str, Part],
        memory: dict[str, Part],
        history: list[Part],
        other_length: int,
        history_length: int,
    ) -> None:
        """Take the fields, the entries of the two large ones, and the bytes of their JSON."""
        self._fields = fields
        self.memory = memory
        self.history = history
        self._other_length = other_length
        self.history_length = history_length
        self._memory_extent: Extent | None = None
        self._total: Extent | None = None

    @classmethod
    def of(cls, state: AgentState) -> EncodedState:
        """Take a state, which has been checked."""
        plain = state.model_dump(mode="json")
        memory = {key: _part(value) for key, value in plain.pop(MEMORY).items()}
        history = [_part(entry) for entry in plain.pop(HISTORY)]
        fields = {name: _part(value) for name, value in plain.items()}
        length = sum(len(part.json) for part in fields.values())
        length += sum(map(_entry_length, memory.items()))
        return cls(fields, memory, history, length, sum(len(part.json) for part in history))

    @property
    def length(self) -> int:
        """The bytes of its JSON, without the names of fields, commas and the like."""
        return self._other_length + self.history_length

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - whatever the field holds
        """Return a field in plain values, as JSON has them; it is not to be changed."""
        if name == MEMORY:
            return {key: part.plain for key, part in self.memory.items()}
        if name == HISTORY:
            return [part.plain for part in self.history]
        return self._fields[name].plain

    def size_of(self, name: str) -> int:
        """Return the bytes of a field, as Firestore counts them."""
        return stored_size(self[name])

    @property
    def names(self) -> Collection[str]:
        """The names of all fields."""
        return _KEYS.keys()

    def raw(self, name: str) -> bytes:
        """Return the JSON of a field."""
        if name == MEMORY:
            entries = [b"%s:%s" % (to_json(key), part.json) for key, part in self.memory.items()]
            return b"{%s}" % b",".join(entries)
        if name == HISTORY:
            return b"[%s]" % b",".join([part.json for part in self.history])
        return self._fields[name].json

    def edited(self, edits: Edits) -> EncodedState:
        """Return the state with what is new; that has been checked."""
        length, history_length = self._other_length, self.history_length
        fields, memory, history = self._fields, self.memory, self.history
        if edits.fields:
            fields = {**fields, **edits.fields}
            for name, part in edits.fields.items():
                length += len(part.json) - len(self._fields[name].json)
        if edits.memory:
            memory = memory.copy()
            for key, entry in edits.memory.items():
                former = memory.pop(key, None) if entry is None else memory.get(key)
                length -= 0 if former is None else _entry_length((key, former))
                if entry is not None:
                    memory[key] = entry
                    length += _entry_length((key, entry))
        if edits.history is not None:
            history = edits.history
            history_length = sum([len(each.json) for each in history])
        result = EncodedState(fields, memory, history, length, history_length)
        if self._memory_extent is not None:
            result._memory_extent = self._edited_extent(self._memory_extent, edits)
        return result

    def edits(
        self,
        changes: Mapping[str, Any],
        *,
        checked: Collection[str] = (),
        whole: bool = False,
        plain: bool = False,
    ) -> Edits:
        """Return what is new with changes of whole fields; those named in `checked` are ours.

        Values may be anything that has a JSON form, with texts as keys; `plain`: they are JSON's
        own. With `whole`, all is checked in any case. Raises InvalidMessageError that names each
        field that is wrong.
        """
        found = _Found(doubtful=whole)
        # First to plain values: a user's own code may run there, such as that of an enum, and what
        # a signal raises in it comes out as it is. The encoder would make its own error of it.
        values = changes if plain else to_json_values(changes)
        for name, value in values.items():
            if name == MEMORY and isinstance(value, dict):
                self._take_memory(found, value)
            elif name == HISTORY and isinstance(value, list) and set(map(type, value)) <= {dict}:
                self._take_history(found, value)
            elif name not in _KEYS or name in {MEMORY, HISTORY}:
                found.malformed[name] = value
            elif (new := _encoded(name, value)) != self._fields[name].json:
                found.fields[name] = Part(new, value)
                if name in _USERS_OWN:
                    found.doubtful = found.doubtful or not _has_form(name, value, new)
                    found.unseen.append(new)
                elif name not in checked:
                    found.doubtful = found.doubtful or new not in _WORDS.get(name, ())
        edits = Edits(found.fields, found.memory, found.history)
        # All at once: a line break, which JSON of ours does not hold, makes nothing of two.
        if found.doubtful or found.malformed or not no_suspect(b"\n".join(found.unseen)):
            self._check(edits, found.malformed, whole=whole)
        return edits

    def _take_memory(self, found: _Found, value: dict[str, Any]) -> None:
        try:
            encoded = [*map(to_json, value.values())]
            for (key, one), new in zip(value.items(), encoded, strict=True):
                known = self.memory.get(key)
                if known is None or known.json != new:
                    found.memory[key] = Part(new, one)
                    found.unseen.append(b"{%s:%s}" % (to_json(key), new))
        except _NOT_JSON as error:
            raise not_json({MEMORY: value}, error) from error
        found.memory |= dict.fromkeys(self.memory.keys() - value.keys())

    def _take_history(self, found: _Found, value: list[dict[str, Any]]) -> None:
        try:
            encoded = [*map(to_json, value)]
        except _NOT_JSON as error:
            raise not_json({HISTORY: value}, error) from error
        known = {part.json: part for part in self.history}
        history = [
            known.get(new) or Part(new, entry) for new, entry in zip(encoded, value, strict=True)
        ]
        found.unseen += [b"[%s]" % new for new in encoded if new not in known]
        if history != self.history:
            found.history = history

    def remembered(self, key: str, value: Any) -> Edits:  # noqa: ANN401 - any JSON
        """Return what is new with one entry, in plain values, of the memory context."""
        try:
            part = Part(to_json(value))
        except _NOT_JSON as error:
            raise not_json({MEMORY: {key: value}}, error) from error
        edits = Edits({}, {key: part})
        if not no_suspect(b"{%s:%s}" % (to_json(key), part.json)):
            self._check(edits)
        return edits

    def forgotten(self, key: str) -> Edits:
        """Return what is new without one entry of the memory context."""
        return Edits({}, {key: None} if key in self.memory else {})

    def with_history(self, history: list[Part]) -> Edits:
        """Return what is new with another history, whose new entries are checked."""
        edits = Edits({}, {}, history)
        if not all(no_suspect(b"[%s]" % part.json) for part in self.new_in(history)):
            self._check(edits)
        return edits

    def new_in(self, history: list[Part]) -> list[Part]:
        """Return the entries of another history that this state does not hold."""
        known = set(map(id, self.history))
        return [part for part in history if id(part) not in known]

    def body(self) -> bytes:
        """Return the JSON of the state."""
        return b"{%s}" % b",".join([_KEYS[name] + self.raw(name) for name in _KEYS])

    def state(self) -> AgentState:
        """Return the state; who changes its maps and lists changes nothing here."""
        return AgentState.model_validate(from_json(self.body()))

    @property
    def extent(self) -> Extent:
        """Bytes and values, as Firestore counts them."""
        if self._total is None:
            if self._memory_extent is None:
                entries = self.memory.items()
                self._memory_extent = Extent(
                    sum(utf8_bytes(key) + 1 + part.extent.size for key, part in entries),
                    sum(part.extent.values for _, part in entries),
                )
            size, values = self._memory_extent
            size, values = size or 1, values + 3  # the state, the memory and the history themselves
            for name, part in self._fields.items():
                size += part.extent.size + len(name) + 1
                values += part.extent.values
            size += len(MEMORY) + len(HISTORY) + 2 + self.history_size
            values += sum(part.extent.values for part in self.history)
            self._total = Extent(size, values)
        return self._total

    @property
    def history_size(self) -> int:
        """Bytes of the task history, as Firestore counts them."""
        return sum(part.extent.size for part in self.history) or 1

    def _edited_extent(self, former: Extent, edits: Edits) -> Extent:
        """Return the extent of the memory's entries after edits, at the cost of those alone."""
        size, values = former
        for key, part in edits.memory.items():
            for one, sign in ((self.memory.get(key), -1), (part, 1)):
                if one is not None:
                    size += sign * (utf8_bytes(key) + 1 + one.extent.size)
                    values += sign * one.extent.values
        return Extent(size, values)

    def _check(
        self, edits: Edits, malformed: dict[str, Any] | None = None, *, whole: bool = False
    ) -> None:
        """Check what is new by the schema; what was there before was checked when it came."""
        new = self.edited(edits)
        fields: dict[str, Any] = {name: part.plain for name, part in new._fields.items()}
        memory = new.memory if whole else {k: p for k, p in edits.memory.items() if p is not None}
        fields[MEMORY] = {key: part.plain for key, part in memory.items()}
        known = set() if whole else set(map(id, self.history))
        fields[HISTORY] = [part.plain for part in new.history if id(part) not in known]
        try:
            checked_state(fields | (malformed or {}))
        except InvalidMessageError:
            # Once more with the whole history, so that each entry is named by its place.
            checked_state(fields | {HISTORY: new[HISTORY]} | (malformed or {}))
            raise


def _part(value: Any) -> Part:  # noqa: ANN401 - any JSON
    return Part(to_json(value), value)


def _entry_length(entry: tuple[str, Part]) -> int:
    key, part = entry
    return len(key) + len(part.json)


def _encoded(name: str, value: Any) -> bytes:  # noqa: ANN401 - the user's own
    """Return the JSON of a value; raise InvalidMessageError where it has none."""
    try:
        return to_json(value)
    except _NOT_JSON as error:
        raise not_json({name: value}, error) from error


def _has_form(name: str, value: object, encoded: bytes) -> bool:
    """Whether a field has the form that the schema wants, whatever it holds."""
    if name == "current_task":
        return encoded.startswith(b'"') or encoded == b"null"
    if name == "performance_metrics":
        return (
            type(value) is dict
            and len(value) <= MAX_NAMES
            and set(map(type, value.values())) <= _NUMBERS
        )
    return encoded.startswith(b"{")


def no_suspect(encoded: bytes) -> bool:
    """Whether JSON certainly holds nothing that the schema refuses.

    What Firestore would refuse or bend shows in the bytes (compact, as pydantic-core writes them).
    A text may hold the same: then the schema has a look, and finds nothing.
    """
    # One `in` after the other: each runs at the speed of memory.
    marks = encoded.translate(None, _NO_MARKS)
    if (
        b"[[" in marks  # an array inside an array, as its first element
        or b",[" in marks  # or as a later one: in a map, a comma is followed by a key
        or b'"__' in encoded  # a key of the form __x__
        or b'"":' in encoded  # an empty key
        or b"NaN" in encoded
        or b"Infinity" in encoded
        or _LONG_NUMBER in encoded.translate(_DIGITS)
    ):
        return False
    if len(encoded) > MAX_KEY_BYTES:
        texts = encoded
        if b'\\"' in texts:
            texts = texts.replace(b"\\\\", b"xx").replace(b'\\"', b"xx")
        if _LONG_TEXT in texts.translate(_TEXTS):
            return False
    # The list of a history is a level itself: one less than the schema allows.
    return marks.count(b"{") + marks.count(b"[") < MAX_DEPTH or depth_of(encoded) < MAX_DEPTH
