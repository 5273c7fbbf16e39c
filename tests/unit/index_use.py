"""Which indexes of firestore.indexes.json the queries use.

The same rules as in tools/indexes.py, read from Firestore's documentation once more, and asked the
other way round: from a query to the entries that can answer it. What both might misread is pinned
by examples in test_indexes.py.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from firestate.queries import SHAPES

if TYPE_CHECKING:
    from firestate.queries import Shape


def used_by(shape: Shape, content: dict[str, Any]) -> list[set[str]]:
    """Give, for each thing that `shape` asks, the entries of the file that can answer it.

    Written from Firestore's documentation alone, without the code that makes the file.
    """
    collection = shape.collection.split("/")[-1]
    scope = "COLLECTION_GROUP" if shape.group else "COLLECTION"
    sorted_by = list(shape.order_by) or [name for name in [shape.within] if name]
    way = "DESCENDING" if shape.descending else "ASCENDING"
    answers = []
    for last in shape.sums or [None]:
        tail = [(name, way) for name in sorted_by]
        tail += [(last, "ASCENDING")] if last else []
        if len(shape.equal) + len(tail) > 1:
            answers.append(
                {
                    json.dumps(index)
                    for index in content["indexes"]
                    if (index["collectionGroup"], index["queryScope"]) == (collection, scope)
                    for fields in [[(f["fieldPath"], f["order"]) for f in index["fields"]]]
                    if len(fields) == len(shape.equal) + len(tail)
                    and fields[len(shape.equal) :] == tail
                    and {name for name, _ in fields[: len(shape.equal)]} == set(shape.equal)
                }
            )
        elif tail or shape.equal:
            ((name, order),) = tail or [(shape.equal[0], "ASCENDING")]
            answers.append(
                {
                    f"{collection} {name} {order} {scope}"
                    for each in content["fieldOverrides"]
                    if (each["collectionGroup"], each["fieldPath"]) == (collection, name)
                    and {"order": order, "queryScope": scope} in each["indexes"]
                }
            )
    return answers


def problems(content: dict[str, Any]) -> list[str]:
    """Say what a file lacks, and what it holds that no query uses."""
    found, used = [], set()
    for name, shape in SHAPES.items():
        for answer in used_by(shape, content):
            if len(answer) != 1:
                found.append(f"{name} has {len(answer)} indexes")
            used |= answer
    listed = [json.dumps(index) for index in content["indexes"]]
    found += [f"twice: {index}" for index in set(listed) if listed.count(index) > 1]
    there = set(listed)
    switched_off = {}
    for each in content["fieldOverrides"]:
        collection, field = each["collectionGroup"], each["fieldPath"]
        switched_off[collection, field] = not each["indexes"], each.get("ttl", False)
        there |= {
            f"{collection} {field} {index['order']} {index['queryScope']}"
            for index in each["indexes"]
        }
    found += [f"unneeded: {entry}" for entry in there - used]
    collections = {shape.collection.split("/")[-1] for shape in SHAPES.values()}
    off = {key for key, (empty, _) in switched_off.items() if empty}
    ttl = {key for key, (_, expires) in switched_off.items() if expires}
    expiring = {(name, "expire_at") for name in ("agent_states", "coordination", "legacy", "late")}
    everything = {(name, "*") for name in collections | {"system_state", "late"}}
    if off != everything | expiring:
        found.append(f"exempt: {off ^ (everything | expiring)}")
    if ttl != expiring:
        found.append(f"removed after a time: {ttl}")
    return found
