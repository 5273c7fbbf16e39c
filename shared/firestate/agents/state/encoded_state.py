"""The fields of one agent's state, each as the JSON that goes into its messages.

A save happens often and changes little, so what has not changed is neither checked nor encoded
again; and what has is looked at in its bytes, where C is fast: what they show to be in order goes
through, and all else is checked in full, by the schema that the functions use.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticSerializationError, to_json

from firestate.agents.state.json_values import not_json
from firestate.agents.state.message_encoding import checked_state
from firestate.limits import MAX_DEPTH, MAX_KEY_BYTES, MAX_NAMES
from firestate.schema.enums import AgentStatus, TaskStatus
from firestate.schema.models import AgentState
from firestate.schema.strict_json import depth_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_WORDS = {
    "status": {to_json(each.value) for each in AgentStatus},
    "task_status": {to_json(each.value) for each in TaskStatus} | {b"null"},
}
_USERS_OWN = frozenset(
    {
        "memory_context",
        "task_history",
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


class EncodedState:
    """Immutable; `changed` gives others."""

    __slots__ = ("_encoded", "_plain")

    def __init__(self, encoded: dict[str, bytes], plain: dict[str, Any]) -> None:
        """Take the JSON of each field, and what is known of them in plain values."""
        self._encoded = encoded
        self._plain = plain

    @classmethod
    def of(cls, state: AgentState) -> EncodedState:
        """Take a state, which has been checked."""
        plain = state.model_dump(mode="json")
        return cls({name: to_json(value) for name, value in plain.items()}, plain)

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - whatever the field holds
        """Give a field in plain values, as JSON has them; it is not to be changed."""
        if name not in self._plain:
            self._plain[name] = json.loads(self._encoded[name])
        return self._plain[name]

    def raw(self, name: str) -> bytes:
        """Give the JSON of a field."""
        return self._encoded[name]

    def changed(
        self, changes: Mapping[str, Any], *, checked: Collection[str] = (), whole: bool = False
    ) -> EncodedState:
        """Give the fields with changes; those named in `checked` are ours, and in order.

        Values may be anything that has a JSON form, with texts as keys. With `whole`, all is
        checked in any case. Raises InvalidMessageError that names each field that is wrong.
        """
        encoded, plain = dict(self._encoded), dict(self._plain)
        doubtful, unseen = whole, []
        for name, value in changes.items():
            try:
                new = to_json(value, inf_nan_mode="constants")
            except (PydanticSerializationError, UnicodeError, RecursionError, ValueError) as error:
                raise not_json({name: value}, error) from error
            if new == encoded.get(name):
                continue
            encoded[name] = new
            plain.pop(name, None)
            if name in _USERS_OWN:
                doubtful = doubtful or not _has_form(name, value, new)
                unseen.append(new)
            elif name not in checked:
                doubtful = doubtful or new not in _WORDS.get(name, ())
        result = EncodedState(encoded, plain)
        if doubtful or not no_suspect(b" ".join(unseen)):
            checked_state({name: result[name] for name in encoded})
        return result

    def body(self) -> bytes:
        """Give the JSON of the state."""
        return b"{%s}" % b",".join([_KEYS[name] + json for name, json in self._encoded.items()])

    def state(self) -> AgentState:
        """Give the state, with maps and lists of its own: who changes them changes nothing here."""
        fields = {name: json.loads(encoded) for name, encoded in self._encoded.items()}
        return AgentState.model_validate(fields)


def _has_form(name: str, value: object, encoded: bytes) -> bool:
    """Whether a field has the form that the schema wants, whatever it holds."""
    if name == "current_task":
        return encoded.startswith(b'"') or encoded == b"null"
    if name == "task_history":
        return type(value) is list and set(map(type, value)) <= {dict}
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
