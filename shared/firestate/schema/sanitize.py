"""Foreign names made fit: frameworks name agents and sessions as they like, documents not quite."""

from __future__ import annotations

import hashlib
import re

from firestate.limits import MAX_ID_BYTES
from firestate.schema.ids import id_problem

_HALF = re.compile("[\ud800-\udfff]")
_MOST_TEXT = 10_000
_DIGEST = 8


def sanitize_id(name: str) -> str:
    """Give `name` as an id: what an id cannot hold becomes `-`, the rest stays as it is.

    One too long is cut, and ends in a digest of the whole: two that begin alike stay two.
    """
    fit = _HALF.sub("-", name).replace("/", "-")
    if len(fit.encode()) > MAX_ID_BYTES:
        digest = hashlib.sha256(fit.encode()).hexdigest()[:_DIGEST]
        fit = f"{fit.encode()[: MAX_ID_BYTES - _DIGEST - 1].decode(errors='ignore')}-{digest}"
    if id_problem(fit):  # what is left to refuse: nothing at all, `.`, `..` and `__x__`
        fit = "-" * len(fit[:2]) + fit[2:] or "-"
    return fit


def sanitize_type(name: str) -> str:
    """Give `name` as an agent type, which holds no `_` either."""
    return sanitize_id(name.replace("_", "-"))


def sanitize_text(text: str) -> str:
    """Give a text that can be stored: no half of a surrogate pair, and not endless."""
    return text.encode("utf-8", "backslashreplace").decode()[:_MOST_TEXT]
