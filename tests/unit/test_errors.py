"""Errors are values: each pickles, copies and compares, and shows its text once."""

from __future__ import annotations

import copy
import importlib
import multiprocessing
import pickle
import pkgutil
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import pytest

import firestate
from firestate import errors
from firestate.errors import FieldProblem, FirestateError, ValueLikeError
from firestate.migration.formats.decoding import Unreadable
from firestate.schema.field_types import MapProblemsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OF_ONE_TEXT = (
    FirestateError,
    errors.AccountError,
    errors.ConfigurationError,
    errors.ConflictError,
    errors.ContentionError,
    errors.DamagedDocumentError,
    errors.ExistsError,
    errors.OutboxError,
    errors.PastNotKeptError,
    errors.RefusedError,
    errors.SchemaTooNewError,
    errors.StoreError,
    errors.UnavailableError,
    errors.UnexpectedError,
    errors.UnknownAccountError,
    errors.UnknownSessionError,
)
# Of each class two of different content, made as the package makes them.
SAMPLES: dict[type[BaseException], tuple[Callable[[], BaseException], ...]] = {
    **{kind: (partial(kind, "one"), partial(kind, "two")) for kind in _OF_ONE_TEXT},
    errors.InvalidMessageError: (
        lambda: errors.InvalidMessageError("schema", [FieldProblem("a", "b")]),
        lambda: errors.InvalidMessageError("schema", [FieldProblem("a", "c")]),
    ),
    errors.FencedError: (
        lambda: errors.FencedError("agent_states/A_1_s"),
        lambda: errors.FencedError("agent_states/A_2_s"),
    ),
    errors.SessionExistsError: (
        lambda: errors.SessionExistsError("agent_states/A_1_s"),
        lambda: errors.SessionExistsError("agent_states/A_2_s"),
    ),
    errors.TerminatedError: (
        lambda: errors.TerminatedError("agent_states/A_1_s"),
        lambda: errors.TerminatedError("agent_states/A_2_s"),
    ),
    errors.EmergencyStopError: (
        lambda: errors.EmergencyStopError(None),
        lambda: errors.EmergencyStopError("no reason given"),  # the same text
    ),
    errors.EmergencyStopUnknownError: (
        lambda: errors.EmergencyStopUnknownError("it could not be read yet"),
        lambda: errors.EmergencyStopUnknownError("it could not be read for 90 s"),
    ),
    errors.OutboxFullError: (
        lambda: errors.OutboxFullError("one.db"),
        lambda: errors.OutboxFullError("two.db"),
    ),
    errors.MissingExtraError: (
        lambda: errors.MissingExtraError("firestate.adapters.adk", "adk", "no module"),
        lambda: errors.MissingExtraError("firestate.adapters.adk", "roles", "no module"),
    ),
    errors.StateFileError: (
        lambda: errors.StateFileError("a.db", "is damaged", "restore it"),
        lambda: errors.StateFileError("a.db", "is damaged", "restore it", readable=True),  # as well
    ),
    MapProblemsError: (
        lambda: MapProblemsError([FieldProblem(str(n), "x") for n in range(4)]),
        lambda: MapProblemsError([FieldProblem(str(n), "x") for n in range(5)]),  # the same text
    ),
    Unreadable: (
        lambda: Unreadable("line 1", "is no JSON", "write JSON"),
        lambda: Unreadable("line 1", "is no JSON", "remove it"),  # the same text
    ),
}


def pickled(error: BaseException, protocol: int) -> BaseException:
    """Return what comes back."""
    found: BaseException = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own
    return found


COPIES: list[Callable[[BaseException], BaseException]] = [
    copy.copy,
    copy.deepcopy,
    *(partial(pickled, protocol=number) for number in range(pickle.HIGHEST_PROTOCOL + 1)),
]
_NEED_EXTRAS = "firestate.adapters."


def below(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    """Yield all that is derived from a class."""
    for each in kind.__subclasses__():
        yield each
        yield from below(each)


def public_exceptions() -> set[type[BaseException]]:
    """Return every exception class that a module of the package defines and does not hide."""
    for module in pkgutil.walk_packages(firestate.__path__, "firestate."):
        if not module.name.startswith(_NEED_EXTRAS) and module.name != "firestate.__main__":
            importlib.import_module(module.name)
    return {
        each
        for each in below(BaseException)
        if each.__module__.partition(".")[0] == "firestate" and not each.__name__.startswith("_")
    }


def test_every_public_exception_has_a_sample_here() -> None:
    """A new class is tested as soon as there is one; the base alone is never raised."""
    assert public_exceptions() == {*SAMPLES, ValueLikeError}
    assert all(type(pair[0]()) is type(pair[1]()) is kind for kind, pair in SAMPLES.items())


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("copied", COPIES)
def test_a_copy_is_the_same_error(
    kind: type[BaseException], copied: Callable[[BaseException], BaseException]
) -> None:
    """Its type, its text, its attributes and its notes; also a copy of a copy."""
    error = SAMPLES[kind][0]()
    error.add_note("while it was tested")
    twice = copied(copied(error))
    assert twice is not error
    assert type(twice) is type(error)
    assert str(twice) == str(error)
    assert repr(twice) == repr(error)
    assert vars(twice) == vars(error)
    assert twice.__notes__ == ["while it was tested"]
    assert twice == error
    assert hash(twice) == hash(error)


@pytest.mark.parametrize("kind", SAMPLES)
def test_errors_are_equal_by_their_content(kind: type[BaseException]) -> None:
    """Made twice they are equal; another content, or another type, is another error."""
    one, other = SAMPLES[kind]
    assert one() == one()
    assert hash(one()) == hash(one())
    assert one() != other()
    assert {one(), one(), other()} == {one(), other()}
    assert one() != Exception(*one().args)
    assert one() not in [make() for other_kind, (make, _) in SAMPLES.items() if other_kind != kind]


def test_notes_do_not_make_another_error() -> None:
    """They say where it has been."""
    noted = FirestateError("one")
    noted.add_note("seen")
    assert noted == FirestateError("one")


class UsersError(FirestateError):
    """As a user may derive one: with keywords alone, and a state of its own."""

    def __init__(self, *, number: int) -> None:
        super().__init__(f"number {number}")
        self.number = number


@pytest.mark.parametrize("copied", COPIES)
def test_an_error_that_a_user_derives_is_copied_as_well(
    copied: Callable[[BaseException], BaseException],
) -> None:
    """Whatever its constructor takes."""
    twice = copied(UsersError(number=3))
    assert isinstance(twice, UsersError)
    assert (str(twice), twice.number) == ("number 3", 3)
    assert twice == UsersError(number=3)
    assert twice != UsersError(number=4)


def raise_sample(position: int) -> None:
    """Raise one, in another process."""
    error = list(SAMPLES.values())[position][0]()
    raise error


def test_errors_come_out_of_a_pool_of_processes() -> None:
    """As they were raised, and the pool goes on working."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        for position, (one, _) in enumerate(SAMPLES.values()):
            error = pool.submit(raise_sample, position).exception(timeout=60)
            assert type(error) is type(one())
            assert error == one()
            assert str(error) == str(one())
