"""The formats, one module each: a new one is a file here, with NAME, `recognises` and `read`."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from firestate.migration.formats.records import FormatReader


@cache
def readers() -> tuple[FormatReader, ...]:
    """Give all readers, in the order of their modules' names."""
    names = sorted(each.name for each in pkgutil.iter_modules(__path__))
    return tuple(cast("FormatReader", import_module(f"{__name__}.{name}")) for name in names)


def reader_of(value: Any, name: str) -> FormatReader | None:  # noqa: ANN401 - any JSON
    """Give the reader that recognises the content of a file; a test sees to it that one does."""
    return next((each for each in readers() if each.recognises(value, name)), None)
