"""Imports of packages that come with one of Firestate's extras."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from firestate.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def required_extra(extra: str, what: str) -> Iterator[None]:
    """Import in this block what `what` needs of an extra; raise MissingExtraError."""
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(what, extra, str(error)) from error
