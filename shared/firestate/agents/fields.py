"""The fields of one agent's state, each as the JSON that goes into its messages.

A save happens often and changes little, so what has not changed is neither checked nor encoded
again; and what has is looked at in its bytes, where C is fast: what they show to be in order goes
through, and all else is checked in full, by the schema that the functions use.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticSerializationError, to_json

from firestate.agents.messages import checked_state
from firestate.agents.values import not_json
from firestate.limits import MAX_DEPTH, MAX_KEY_BYTES, MAX_NAMES
from firestate.schema.enums import AgentStatus, TaskStatus
from firestate.schema.models import AgentState
from firestate.schema.reading import depth_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_WORDS = {
    "status": {to_json(each.value) for each in AgentStatus},
    "task_status": {to_json(each.value) for each in TaskStatus} | {b"null"},
}
_MAPS = frozenset({"memory_context", "agent_config", "collaboration_context"})

# What Firestore would refuse or bend shows in the bytes (compact, as pydantic-core writes them).
# A text may hold the same: then the schema has a look, and finds nothing.
_SUSPECT = (
    b'"__',  # a key of the form __x__
    b'"":',  # an empty key
    b"[[",  # an array inside an array, as its first element
    b",[",  # or as a later one: in a map, a comma is followed by a key
    b"NaN",
    b"Infinity",
)
_LONG_NUMBER = b"0" * 19  # 64 bits hold 18 digits for certain
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_LONG_TEXT = b"x" * (MAX_KEY_BYTES + 1)
_TEXTS = bytes(byte if byte == ord('"') else ord("x") for byte in range(256))


class Fields:
    """Immutable; `changed` gives others."""

    __slots__ = ("_encoded", "_plain")

    def __init__(self, encoded: dict[str, bytes], plain: dict[str, Any]) -> None:
        """Take the JSON of each field, and what is known of them in plain values."""
        self._encoded = encoded
        self._plain = plain

    @classmethod
    def of(cls, state: AgentState) -> Fields:
        """Take a state, which has been checked."""
        plain = state.model_dump(mode="json")
        return cls({name: to_json(value) for name, value in plain.items()}, plain)

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - whatever the field holds
        """Give a field in plain values, as JSON has them; it is not to be changed."""
        if name not in self._plain:
            self._plain[name] = json.loads(self._encoded[name])
        return self._plain[name]

    def changed(
        self, changes: Mapping[str, Any], *, checked: Collection[str] = (), whole: bool = False
    ) -> Fields:
        """Give the fields with changes; those named in `checked` are ours, and in order.

        Values may be anything that has a JSON form. With `whole`, all is checked in any case.
        Raises InvalidMessageError that names each field that is wrong.
        """
        encoded, plain = dict(self._encoded), dict(self._plain)
        doubtful = whole
        for name, value in changes.items():
            new = _encoded(name, value)
            if new == encoded.get(name):
                continue
            encoded[name] = new
            plain.pop(name, None)
            doubtful = doubtful or not (name in checked or _surely_fine(name, value, new))
        result = Fields(encoded, plain)
        if doubtful:
            checked_state({name: result[name] for name in encoded})
        return result

    def body(self) -> bytes:
        """Give the JSON of the state."""
        return b"{%s}" % b",".join([b'"%s":%s' % (n.encode(), e) for n, e in self._encoded.items()])

    def state(self) -> AgentState:
        """Give the state."""
        return AgentState.model_validate({name: self[name] for name in self._encoded})


def _encoded(name: str, value: object) -> bytes:
    try:
        return to_json(value, inf_nan_mode="constants")
    except (PydanticSerializationError, UnicodeError, RecursionError, ValueError) as error:
        raise not_json({name: value}, error) from error


def _surely_fine(name: str, value: object, encoded: bytes) -> bool:
    if words := _WORDS.get(name):
        return encoded in words
    if name == "current_task":
        return encoded.startswith(b'"') or encoded == b"null"
    if name in _MAPS:
        return encoded.startswith(b"{") and no_suspect(encoded)
    if name == "task_history":
        return (
            type(value) is list
            and all(type(entry) is dict for entry in value)
            and no_suspect(encoded, around=1)
        )
    if name == "performance_metrics":
        return (
            type(value) is dict
            and len(value) <= MAX_NAMES
            and all(type(number) is float or type(number) is int for number in value.values())
            and no_suspect(encoded)
        )
    return False


def no_suspect(encoded: bytes, around: int = 0) -> bool:
    """Whether the JSON of a map or a list certainly holds nothing that the schema refuses."""
    if any(each in encoded for each in _SUSPECT):
        return False
    if _LONG_NUMBER in encoded.translate(_DIGITS):
        return False
    if len(encoded) > MAX_KEY_BYTES:
        texts = encoded
        if b'\\"' in texts:
            texts = texts.replace(b"\\\\", b"xx").replace(b'\\"', b"xx")
        if _LONG_TEXT in texts.translate(_TEXTS):
            return False
    opening = encoded.count(b"{") + encoded.count(b"[")
    most = MAX_DEPTH - around
    return opening <= most or depth_of(encoded) <= most
