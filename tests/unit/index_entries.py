"""How many index entries Firestore makes for a document, and how large they are.

Computed as documented: https://firebase.google.com/docs/firestore/query-data/index-overview and
https://firebase.google.com/docs/firestore/storage-size#index-entry-size. The emulator makes none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firestate.schema.values import stored_size, utf8_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_ENTRIES = 40_000
"""Firestore: index entries of one document."""
MOST_ENTRY_BYTES = 7_680
MOST_BYTES = 8 * 1024 * 1024
"""Firestore: one entry, and all entries of one document."""

_AUTOMATIC = [{"order": "ASCENDING"}, {"order": "DESCENDING"}, {"arrayConfig": "CONTAINS"}]
_LONGEST_VALUE = 1_500  # what is longer is indexed by its first bytes


def entries(path: str, document: dict[str, Any], content: dict[str, Any]) -> list[int]:
    """Give the size of each entry that `content` (of firestore.indexes.json) makes."""
    collection = path.split("/")[-2]
    mine = [each for each in content["fieldOverrides"] if each["collectionGroup"] == collection]
    overrides = {each["fieldPath"]: each["indexes"] for each in mine}
    sizes = list(_single(path, "", document, overrides.get("*", _AUTOMATIC), overrides))
    for index in content["indexes"]:
        names = [field["fieldPath"] for field in index["fields"]]
        if index["collectionGroup"] == collection and all(name in document for name in names):
            values = sum(_value_size(document[name]) for name in names)
            sizes.append(_path_size(path) + values + 32)
    return sizes


def _single(
    path: str,
    prefix: str,
    fields: dict[str, Any],
    inherited: list[dict[str, str]],
    overrides: dict[str, list[dict[str, str]]],
) -> Iterator[int]:
    for name, value in fields.items():
        field = f"{prefix}{name}"
        indexed = overrides.get(field, inherited)
        if isinstance(value, dict):
            yield from _single(path, f"{field}.", value, indexed, overrides)
            continue
        parent = path.rpartition("/")[0].rpartition("/")[0]
        around = _path_size(path) + _path_size(parent) + utf8_bytes(field) + 1 + 32
        for index in indexed:
            if isinstance(value, list) and "arrayConfig" in index:
                yield from (around + _value_size(item) for item in value)
            elif not isinstance(value, list) and "order" in index:
                yield around + _value_size(value)


def _value_size(value: Any) -> int:
    return min(stored_size(value), _LONGEST_VALUE)


def _path_size(path: str) -> int:
    return sum(utf8_bytes(part) + 1 for part in path.split("/") if part) + 16
