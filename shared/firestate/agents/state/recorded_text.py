"""Texts for what cannot be recorded as it is: recording never defeats the work.

An error whose text is too long, or cannot be had, and a note that has no JSON form are recorded all
the same: cut, and marked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firestate.agents.state.json_values import text_of, to_json_values
from firestate.errors import InvalidMessageError
from firestate.limits import INT64_MAX, MAX_LABEL_BYTES, MAX_LABELS, MAX_NOTE_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

_MARK = " ... (cut)"


def cut_text(text: str) -> str:
    """Return a text of at most 4,000 bytes of UTF-8; one that was cut says so at its end."""
    encoded = text[: MAX_NOTE_BYTES + 1].encode("utf-8", "backslashreplace")
    if len(encoded) <= MAX_NOTE_BYTES:
        return encoded.decode()
    return encoded[: MAX_NOTE_BYTES - len(_MARK)].decode("utf-8", "ignore") + _MARK


def error_text(error: BaseException | str) -> str:
    """Return what an error says, after its type; an exception that says nothing, its type alone.

    >>> error_text(ValueError("no such file"))
    'ValueError: no such file'
    """
    if isinstance(error, str):
        return cut_text(error)
    name = type(error).__name__
    try:
        said = str(error)
    except Exception:  # noqa: BLE001 - the user's own `__str__`
        return f"{name} (its text cannot be had)"
    return cut_text(f"{name}: {said}")


def recordable(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields in plain values; what has no JSON form is replaced by its repr, cut.

    >>> recordable({"found": 3, "client": object()})["found"]
    3
    """
    try:
        return to_json_values(fields)
    except InvalidMessageError:
        return dict(_recordable(text_of(key), value) for key, value in fields.items())


def _recordable(key: str, value: Any) -> tuple[str, Any]:  # noqa: ANN401 - the user's own
    try:
        ((name, plain),) = to_json_values({key: value}).items()
    except InvalidMessageError:
        return cut_text(key), _repr(value)
    return name, plain


def _repr(value: Any) -> str:  # noqa: ANN401 - the user's own
    try:
        return cut_text(repr(value))
    except Exception:  # noqa: BLE001 - the user's own `__repr__`
        return f"a {type(value).__name__} (its repr cannot be had)"


def in_short(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain fields with short texts in place of what the schema may refuse, or is large."""
    return {_short_key(key): _short(value) for key, value in fields.items()}


def _short_key(key: str) -> str:
    return (cut_text(key)[:MAX_LABEL_BYTES] if len(key) > MAX_LABEL_BYTES else key).strip(
        "_"
    ) or "note"


def _is_label(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_LABEL_BYTES


def _short(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if value is None or (isinstance(value, int | float) and abs(value) <= INT64_MAX):
        return value
    # Such as the tools of a task.
    if isinstance(value, list) and len(value) <= MAX_LABELS and all(map(_is_label, value)):
        return value
    return cut_text(value if isinstance(value, str) else repr(value))
