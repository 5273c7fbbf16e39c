"""What reads are told: what is stored, and over it what this machine has written since."""

from __future__ import annotations

import json
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from firestate.lookup import is_wanted
from firestate.queries import first_that_fits
from firestate.stores.ordering import sort_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from firestate.agents.reading.answers import Document, Lookup
    from firestate.queries import Shape


def state_document(data: bytes) -> Document:
    """Give what a read is to see of a state message or a tombstone of ours."""
    raw: dict[str, Any] = json.loads(data)
    order = {name: raw[name] for name in ("epoch", "revision", "writer")}
    # As ingest would read it: what an earlier release has put is of version 1 still.
    order["schema_version"] = raw.get("schema_version", 1)
    if "deleted" in raw:
        return {**raw["deleted"], **order, "deleted": True}
    return _timed(raw["state"], "created_at", "last_updated", "last_active") | order


def event_document(data: bytes) -> Document:
    """Give what a read is to see of an event message of ours."""
    return _timed(json.loads(data)["event"], "timestamp")


def _timed(fields: dict[str, Any], *names: str) -> Document:
    # Not read by the models, which would take most of the time of a look-up over many agents: it
    # was checked when it was put, and what is found is read as any document is.
    return fields | {name: datetime.fromisoformat(fields[name]) for name in names}


def is_later(one: Mapping[str, Any], other: Mapping[str, Any] | None) -> bool:
    """Whether `one` replaces `other`; an event replaces nothing, since it is the same."""
    if other is None:
        return True
    if "epoch" not in one:
        return False
    return (one["epoch"], one["revision"]) > (other.get("epoch", 0), other.get("revision", 0))


def with_own_writes(
    found: Mapping[str, Document], own: Mapping[str, Document], look_up: Lookup
) -> dict[str, Document]:
    """Return the documents of a Lookup, by path: `found` with `own` that are later on top."""
    later = {path: data for path, data in own.items() if is_later(data, found.get(path))}
    merged = {path: data for path, data in found.items() if path not in later}
    merged |= {path: data for path, data in later.items() if matches_lookup(data, look_up)}
    if merged.keys() == found.keys() and not merged.keys() & later.keys():
        return dict(islice(found.items(), look_up.limit))
    return dict(in_order(merged.items(), look_up)[: look_up.limit])


def may_miss_documents(
    found: Mapping[str, Document], own: Mapping[str, Document], look_up: Lookup
) -> bool:
    """Whether the store may hold more that belongs to the result of a Lookup than was `found`.

    It gave up to the limit; and of that, with `own` on top, something is gone or comes later.
    """
    if look_up.limit is None or not 0 < look_up.limit <= len(found):
        return False
    result = list(with_own_writes(found, own, look_up).items())
    if len(result) < look_up.limit:
        return True
    keys = [_key(each, look_up) for each in (result[-1], list(found.items())[-1])]
    return keys[0] < keys[1] if _shape(look_up).descending else keys[0] > keys[1]


def matches_lookup(data: Document, look_up: Lookup) -> bool:
    """Whether a document is one that a Lookup finds."""
    wanted = {name: value for name, value in look_up.wanted.items() if value is not None}
    if not is_wanted(data, wanted):
        return False
    fields = _shape(look_up).order_by
    if any(name not in data for name in fields):
        return False
    if look_up.until is not None and data[fields[0]] >= look_up.until:
        return False
    return look_up.since is None or data[fields[0]] >= look_up.since


def in_order(
    documents: Iterable[tuple[str, Document]], look_up: Lookup
) -> list[tuple[str, Document]]:
    """Sort documents as the store would."""
    descending = _shape(look_up).descending
    return sorted(documents, key=lambda each: _key(each, look_up), reverse=descending)


def _shape(look_up: Lookup) -> Shape:
    asked = {name: value for name, value in look_up.wanted.items() if value is not None}
    return first_that_fits(look_up.shapes, asked)


def _key(each: tuple[str, Document], look_up: Lookup) -> tuple[Any, ...]:
    path, data = each
    return (*(sort_key(data, name) or (-1, None) for name in _shape(look_up).order_by), path)
