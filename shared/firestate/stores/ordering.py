"""How values of documents compare and sort, as Firestore has it."""

from __future__ import annotations

import operator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from firestate.stores.sqlite_values import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from firestate.stores.protocol import Where

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_NOTHING = object()


def matches(data: Mapping[str, Any], where: Iterable[Where]) -> bool:
    """Whether a document meets all conditions; a field that is not there meets none."""
    return all(_meets(field_of(data, each.field), each) for each in where)


def field_of(data: Mapping[str, Any], dotted: str) -> Any:  # noqa: ANN401 - anything stored
    """Return the value of a (dotted) field, or a mark that compares with nothing."""
    value: Any = data
    for name in dotted.split("."):
        if not isinstance(value, dict) or name not in value:
            return _NOTHING
        value = value[name]
    return value


def number_in(data: Mapping[str, Any], dotted: str) -> int | float:
    """Return the number in a (dotted) field; 0 for anything else, as Firestore's sums have it."""
    value = field_of(data, dotted)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else 0


def sort_key(data: Mapping[str, Any], dotted: str) -> tuple[int, Any] | None:
    """Return what a document is ordered by; None where the field is not there."""
    value = field_of(data, dotted)
    return None if value is _NOTHING else (type_rank(value), _comparable(value))


def _meets(value: Any, condition: Where) -> bool:  # noqa: ANN401 - anything stored
    if value is _NOTHING:
        return False
    if condition.operator == "in":
        return any(_same_kind(value, each) and value == each for each in condition.value)
    compare = _COMPARISONS[condition.operator]
    return _same_kind(value, condition.value) and compare(
        _comparable(value), _comparable(condition.value)
    )


def _same_kind(one: Any, other: Any) -> bool:  # noqa: ANN401 - anything stored
    return type_rank(one) == type_rank(other)


# https://firebase.google.com/docs/firestore/manage-data/data-types#value_type_ordering
def type_rank(value: Any) -> int:  # noqa: ANN401 - anything stored
    """Return where a value's type comes among the types."""
    match value:
        case None:
            return 0
        case bool():
            return 1
        case int() | float():
            return 2
        case datetime():
            return 3
        case str():
            return 4
        case bytes():
            return 5
        case list():
            return 6
        case _:
            return 7


def _comparable(value: Any) -> Any:  # noqa: ANN401 - anything stored
    # Lists and maps are never ordered by here; their text makes the order total all the same.
    return encode({"": value}) if value is None or isinstance(value, list | dict) else value
