"""Requests to read from the store, and the answers that agents get.

A method that reads is written once, and called in two ways: `manager.active()` waits for its
answer, `await manager.active.aio()` lets other tasks run meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import update_wrapper
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    Self,
    TypeAlias,
    TypeVar,
    overload,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from firestate.queries import Shape
    from firestate.schema.ids import Identity

    Find: TypeAlias = "str | Identity | Lookup"

T = TypeVar("T")
P = ParamSpec("P")

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What a read found.

    `fresh`: it is what is stored, with this machine's own writes on top. If not, the store could
    not be asked, and it is what this process knows: its own writes, and what it has read before.
    """

    value: T
    fresh: bool
    as_of: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Lookup:
    """Documents to be found: those with the fields `wanted`, in the order of the shape that fits.

    `since` and `until` bound the field that the result is sorted by, the latter excluded.
    """

    shapes: Sequence[Shape]
    wanted: Mapping[str, object]
    since: datetime | None = None
    until: datetime | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class ReadRequest(Generic[T]):
    """What to find, and what to make of the documents and their freshness.

    `find` is the Identity of a state, the path of another document, or a Lookup. With `stored` what
    this machine has written since is not looked at.
    """

    find: Find
    make: Callable[[list[Document], bool], T]
    stored: bool = False


@dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """An answer that is there already: nothing has to be read."""

    value: T


Question: TypeAlias = "ReadRequest[T] | Known[T]"


def read_request(find: Find, convert: Callable[[list[Document]], T]) -> ReadRequest[Answer[T]]:
    """Return a ReadRequest whose result is an Answer."""
    return ReadRequest(find, lambda documents, fresh: Answer(convert(documents), fresh))


class RequestRunner(Protocol):
    """Runs requests on the store."""

    def ask(self, question: Question[T]) -> T:
        """Ask, and give what is made of what was found."""
        ...

    async def ask_aio(self, question: Question[T]) -> T:
        """Do the same, and let other tasks run meanwhile."""
        ...


class _HasReader(Protocol):
    @property
    def _reader(self) -> RequestRunner: ...


class BoundRead(Generic[P, T]):
    """A method that reads, of one object."""

    def __init__(self, method: Callable[P, Question[T]], runner: RequestRunner) -> None:
        """Take the method, and whom to ask."""
        self._method = method
        self._runner = runner
        update_wrapper(self, method)  # for people's `help`

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Ask, and wait for the answer."""
        return self._runner.ask(self._method(*args, **kwargs))

    def request(self, *args: P.args, **kwargs: P.kwargs) -> Question[T]:
        """Return what would be asked."""
        return self._method(*args, **kwargs)

    def aio(self, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Ask, and let other tasks run until the answer is there."""
        return self._runner.ask_aio(self._method(*args, **kwargs))


class read_method(Generic[P, T]):  # noqa: N801 - a decorator
    """Make of a method that returns a Question one that runs it: plain, or by `.aio`."""

    def __init__(self, method: Callable[Concatenate[Any, P], Question[T]]) -> None:
        """Take the method."""
        self._method = method
        update_wrapper(self, method)  # type: ignore[arg-type] # for people's `help`

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: _HasReader, owner: type) -> BoundRead[P, T]: ...
    def __get__(self, instance: _HasReader | None, owner: type) -> Self | BoundRead[P, T]:
        """Bind it, as any method is."""
        if instance is None:
            return self
        bound: Any = self._method.__get__(instance, owner)
        return BoundRead(bound, instance._reader)  # noqa: SLF001 - of the class that the method is of
