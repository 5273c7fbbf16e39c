"""Foreign names made fit: frameworks name agents and sessions as they like, documents not quite."""

from __future__ import annotations

import hashlib
import re

from firestate.limits import MAX_ID_BYTES
from firestate.schema.ids import id_problem

_HALF = re.compile("[\ud800-\udfff]")
_MOST_TEXT = 10_000
_DIGEST = 8
_LONG_DIGEST = 32
_APART = re.compile("[:/%\ud800-\udfff]")


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


def id_text(name: object) -> str:
    """Return a framework's name of something, whatever it is, as an id: its text, made fit.

    One that is changed ends in a digest of the name: `a/b` is not `a-b`.
    """
    text = name if isinstance(name, str) else str(name)
    fit = sanitize_id(text)
    if fit == text:
        return fit
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_LONG_DIGEST]
    head = fit.encode()[: MAX_ID_BYTES - _LONG_DIGEST - 1].decode(errors="ignore")
    return f"{head}-{digest}"


def joined_id(*parts: object) -> str:
    """Return one id for what a framework names by several: `shop:alice:main`.

    Other parts give another id: what would blur where one ends is written as in a URL (`%3A`). One
    too long is cut, and ends in a digest of the whole.
    """
    joined = ":".join(_APART.sub(_escaped, str(part)) for part in parts)
    if id_problem(joined) and joined.startswith("_"):  # of the form __x__, which is reserved
        joined = f"%5F{joined[1:]}"
    encoded = joined.encode()
    if len(encoded) <= MAX_ID_BYTES:
        return joined
    head = encoded[: MAX_ID_BYTES - _LONG_DIGEST - 2].decode(errors="ignore")
    # No joined text holds a bare `%`: so nothing short can look like what was cut.
    return f"{head}%-{hashlib.sha256(encoded).hexdigest()[:_LONG_DIGEST]}"


def _escaped(found: re.Match[str]) -> str:
    return f"%{ord(found[0]):02X}"


def sanitize_type(name: str) -> str:
    """Give `name` as an agent type, which holds no `_` either."""
    return sanitize_id(name.replace("_", "-"))


def sanitize_text(text: str) -> str:
    """Give a text that can be stored: no half of a surrogate pair, and not endless."""
    return text.encode("utf-8", "backslashreplace").decode()[:_MOST_TEXT]
