"""Finding documents by any of their fields, through the queries that there are."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from firestate.queries import first_that_fits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from firestate.queries import Shape
    from firestate.stores.protocol import Store, Stored


def look_up(
    store: Store,
    shapes: Sequence[Shape],
    wanted: Mapping[str, object],
    *,
    low: object = None,
    high: object = None,
    limit: int | None = None,
    fields: Sequence[str] | None = None,
) -> Iterator[Stored]:
    """Give the documents whose fields are as `wanted` (None: anything; a list: any of these).

    Asked of the store is the first of `shapes` that fits, where it has a range from `low` to below
    `high`; what that leaves open is filtered here.
    """
    asked = {name: value for name, value in wanted.items() if value is not None}
    shape = first_that_fits(shapes, asked)
    rest = {name: value for name, value in asked.items() if name not in shape.equal}
    if not rest:
        return store.query(shape.query(asked, low=low, high=high, limit=limit, fields=fields))
    masked = None if fields is None else [*fields, *rest]
    found = store.query(shape.query(asked, low=low, high=high, fields=masked))
    return islice((each for each in found if is_wanted(each.data, rest)), limit)


def is_wanted(data: Mapping[str, object], wanted: Mapping[str, object]) -> bool:
    """Whether a document's fields are as `wanted`."""
    return all(
        data.get(name) in (value if isinstance(value, list) else [value])
        for name, value in wanted.items()
    )
