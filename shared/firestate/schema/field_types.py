"""The types of the models' fields: what each takes, and what it refuses with which words."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    FailFast,
    Field,
    Strict,
    WithJsonSchema,
    WrapValidator,
)

from firestate.errors import ValueLikeError
from firestate.limits import INT64_MAX, INT64_MIN, MAX_COUNT, MAX_NAMES
from firestate.schema.ids import agent_type_problem, id_problem
from firestate.schema.values import problems_of, utc

if TYPE_CHECKING:
    from collections.abc import Callable

    from firestate.errors import FieldProblem

T = TypeVar("T")


class MapProblemsError(ValueLikeError, ValueError):
    """What is wrong inside a value, with paths that begin below the field itself."""

    def __init__(self, problems: list[FieldProblem]) -> None:
        """Say the first few; a map can hold thousands of mistakes."""
        self.problems = problems
        super().__init__("; ".join(map(str, problems[:3])))


_MOST_PROBLEMS = 20


def _check_value(value: T) -> T:
    problems = []
    for problem in problems_of(value, ""):
        problems.append(problem)
        if len(problems) == _MOST_PROBLEMS:
            break
    if problems:
        raise MapProblemsError(problems)
    return value


def check_keys(value: dict[str, T]) -> dict[str, T]:
    """Refuse keys that Firestore would refuse, whatever the values are."""
    _check_value(dict.fromkeys(value))
    return value


def check_number(value: T) -> T:
    """Refuse more entries than anybody has, before each of them is looked at."""
    if isinstance(value, dict | list) and len(value) > MAX_NAMES:
        message = f"holds {len(value):,} entries, at most {MAX_NAMES:,} are allowed"
        raise ValueError(message)
    return value


def _in_batches(value: object, validate: Callable[[object], dict[str, T]]) -> dict[str, T]:
    """Stop after the first 20 entries that hold a mistake: each mistake costs pydantic more.

    A thousand entries with forty mistakes each are a small message; nobody reads them all.
    """
    if not isinstance(value, dict):
        return validate(value)
    found: dict[str, T] = {}
    entries = iter(value.items())
    while batch := dict(islice(entries, _MOST_PROBLEMS)):
        found |= validate(batch)
    return found


InBatches = WrapValidator(_in_batches)


def _check_whole(value: T) -> T:
    if isinstance(value, int) and not INT64_MIN <= value <= INT64_MAX:
        message = "is an integer past 64 bits"
        raise ValueError(message)
    return value


def _check_id(text: str) -> str:
    if problem := id_problem(text):
        raise ValueError(problem)
    return text


def _check_agent_type(text: str) -> str:
    if problem := agent_type_problem(text):
        raise ValueError(problem)
    return text


def _read_time(value: object) -> datetime:
    if isinstance(value, datetime):
        return utc(value)
    if not isinstance(value, str):
        message = f"must be an ISO 8601 time, not {type(value).__name__}"
        raise ValueError(message)  # noqa: TRY004 - pydantic makes a problem of a ValueError only
    try:
        # CPython reads up to a NUL, and leaves out what follows.
        return utc(datetime.fromisoformat(value.replace("\0", " NUL ")))
    except (ValueError, OverflowError) as error:
        message = "is no ISO 8601 time"
        raise ValueError(message) from error


Text = Annotated[str, AfterValidator(_check_value)]
Id = Annotated[
    str,
    AfterValidator(_check_id),
    WithJsonSchema(
        {"type": "string", "minLength": 1, "pattern": r"^(?!\.{1,2}$)(?!__.*__$)[^/]+$"}
    ),
]
AgentType = Annotated[
    str,
    AfterValidator(_check_agent_type),
    WithJsonSchema({"type": "string", "minLength": 1, "pattern": r"^(?!\.{1,2}$)[^/_]+$"}),
]
UtcTime = Annotated[datetime, BeforeValidator(_read_time)]
UserMap = Annotated[dict[str, Any], AfterValidator(_check_value)]
UserMaps = Annotated[list[dict[str, Any]], FailFast(), AfterValidator(_check_value)]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False), BeforeValidator(_check_whole)]
Numbers = Annotated[
    dict[str, Number],
    InBatches,
    BeforeValidator(check_number),
    AfterValidator(_check_value),
]
Names = (FailFast(), BeforeValidator(check_number))
Flag = Annotated[bool, Strict()]
Count = Annotated[int, Strict(), Field(ge=0, le=MAX_COUNT)]
