"""Make firestore.indexes.json from the queries of the code: `python -m tools.indexes`.

What Firestore wants (https://firebase.google.com/docs/firestore/query-data/index-overview):

- a query about one field uses an index of that field, in the direction in which it sorts;
- one about several uses a composite index of just these: first those asked for a value, in any
  order, then those that it sorts by, in their order and direction. Firestore could also merge
  smaller indexes, at a price that depends on the data; here each query has its own;
- a document without one of its fields is not in an index: so no index serves a shorter query.

Automatic indexes are switched off for each collection (`*`), and those that a query needs are
switched on: so neither a payload nor a time that only grows is indexed for nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from firestate.queries import SHAPES
from firestate.schema.ids import EXPIRING, LATE, SYSTEM

if TYPE_CHECKING:
    from collections.abc import Collection

    from firestate.queries import Shape

FILE = Path(__file__).resolve().parent.parent / "firestore.indexes.json"

UP, DOWN = "ASCENDING", "DESCENDING"


class Need(NamedTuple):
    """What one query asks of an index: fields asked for a value, then (field, direction)s."""

    collection: str
    scope: str
    equal: frozenset[str]
    sorted_by: tuple[tuple[str, str], ...]


def needs(shape: Shape) -> list[Need]:
    """Give what a shape needs: one index for its query, or one for each of its sums."""
    direction = DOWN if shape.descending else UP
    if shape.within and shape.order_by[:1] not in ((), (shape.within,)):
        message = f"Firestore sorts by what is asked for a range first: {shape}"
        raise ValueError(message)
    order = shape.order_by or ((shape.within,) if shape.within else ())
    sorted_by = tuple((name, direction) for name in order)
    collection = shape.collection.rpartition("/")[2]
    scope = "COLLECTION_GROUP" if shape.group else "COLLECTION"
    every = [(*sorted_by, (name, UP)) for name in shape.sums] or [sorted_by]
    equal = frozenset(shape.equal)
    return [Need(collection, scope, equal, each) for each in every if equal or each]


def indexes(shapes: Collection[Shape]) -> dict[str, Any]:
    """Give the content of the file for these queries."""
    composite: list[dict[str, Any]] = []
    single: dict[tuple[str, str], list[dict[str, str]]] = {}
    # The more a query sorts by, the fewer indexes serve it: so these come first.
    wanted = {need for shape in shapes for need in needs(shape)}
    # By all that tells them apart: the file must not depend on the order of a set.
    for need in sorted(wanted, key=_place):
        fields = [(name, UP) for name in sorted(need.equal)] + list(need.sorted_by)
        if len(fields) == 1:
            ((name, order),) = fields
            single.setdefault((need.collection, name), []).append(
                {"order": order, "queryScope": need.scope}
            )
        elif not any(serves(index, need) for index in composite):
            composite.append(
                {
                    "collectionGroup": need.collection,
                    "queryScope": need.scope,
                    "fields": [{"fieldPath": name, "order": order} for name, order in fields],
                }
            )
    # Nobody queries the documents of these: each is read by its name.
    collections = {shape.collection.rpartition("/")[2] for shape in shapes} | {SYSTEM, LATE}
    overrides = [_override(name, "*", []) for name in sorted(collections)]
    overrides += [_override(name, "expire_at", []) | {"ttl": True} for name in EXPIRING]
    overrides += [_override(*field, entries) for field, entries in sorted(single.items())]
    return {"indexes": composite, "fieldOverrides": overrides}


def _place(need: Need) -> tuple[str, str, int, list[str], tuple[tuple[str, str], ...]]:
    return (*need[:2], -len(need.sorted_by), sorted(need.equal), need.sorted_by)


def serves(index: dict[str, Any], need: Need) -> bool:
    """Whether a composite index of the file is one that `need` can use."""
    fields = [(field["fieldPath"], field["order"]) for field in index["fields"]]
    first, rest = fields[: len(need.equal)], fields[len(need.equal) :]
    return (
        (index["collectionGroup"], index["queryScope"]) == need[:2]
        and {name for name, _ in first} == need.equal
        and tuple(rest) == need.sorted_by
    )


def _override(collection: str, field: str, entries: list[dict[str, str]]) -> dict[str, Any]:
    return {"collectionGroup": collection, "fieldPath": field, "indexes": entries}


def text(content: dict[str, Any]) -> str:
    """Give the file's text: a line for each index."""
    parts = []
    for name, entries in content.items():
        lines = ",\n".join(f"    {json.dumps(entry)}" for entry in entries)
        parts.append(f'  "{name}": [\n{lines}\n  ]')
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    FILE.write_text(text(indexes(SHAPES.values())))
    print(f"Wrote {FILE.name} for {len(SHAPES)} kinds of queries.")
