"""The indexes of the local engine's file: what firestore.indexes.json is for the cloud."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firestate.queries import SHAPES
from firestate.stores.sqlite_lookups import Index

if TYPE_CHECKING:
    from firestate.queries import Shape


def _index_of(shape: Shape) -> Index | None:
    """Return the index that a query of this shape is read along; None: the one of all paths."""
    order = shape.order_by or ((shape.within,) if shape.within else ())
    return Index(shape.collection, shape.equal, order) if shape.equal or order else None


INDEXES = tuple(dict.fromkeys(each for each in map(_index_of, SHAPES.values()) if each))
