"""A state by its identity, wherever its document lies.

Releases up to 0.1 stored every state under the plain join of its ids. For most identities that is
the path of today; for the others (schema/ids says which) the document may still lie at the former
path, until `firestate rederive` has moved it. While two releases run beside each other there can
even be two documents of one identity: the later one is the state.

    identity              looked at                                             billed reads
    most                  today's path                                          1
    with a marked id      today's path, and the former one in the same request  2
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from firestate.schema.ids import Identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from firestate.stores.protocol import Store, Stored

FIELDS = (*Identity._fields, "epoch", "revision")
"""What a read needs to choose by; every mask of fields must name these."""


class StoredState(NamedTuple):
    """What is stored of an identity: its state, and what is in the way.

    `occupant` is a document of another identity at the path that today belongs to this one.
    """

    state: Stored | None
    occupant: Stored | None = None


def read_state(
    store: Store, identity: Identity, fields: Sequence[str] | None = None
) -> StoredState:
    """Read the state of an identity; `fields` must hold FIELDS, None reads all.

    Raises StoreError where the store cannot be read.
    """
    paths = identity.state_paths
    if len(paths) > 1:
        return choose_state(identity, store.read_many(paths, fields))
    stored = store.read(paths[0], fields)
    return choose_state(identity, {} if stored is None else {stored.path: stored})


def choose_state(identity: Identity, found: Mapping[str, Stored]) -> StoredState:
    """Choose among the documents found at `identity.state_paths`, given by their paths."""
    own = [
        found[path]
        for path in identity.state_paths
        if path in found and identity_in(found[path].data) == identity
    ]
    own.sort(key=_order, reverse=True)  # stable: of two equal ones that at today's path
    here = found.get(identity.state_path)
    occupant = here if here is not None and here not in own else None
    return StoredState(own[0] if own else None, occupant)


def later_elsewhere(store: Store, found: Iterable[Stored]) -> dict[Identity, Stored]:
    """Look for later states of identities that were found at one of their two paths.

    Return them by their identities. Of states with one path, nearly all, nothing is read.
    """
    known = {
        identity: stored
        for stored in found
        if (identity := identity_in(stored.data)) is not None and len(identity.state_paths) > 1
    }
    others = {
        path: identity
        for identity, stored in known.items()
        for path in identity.state_paths
        if path != stored.path
    }
    return {
        others[path]: other
        for path, other in (store.read_many(list(others)) if others else {}).items()
        if identity_in(other.data) == others[path] and _order(other) > _order(known[others[path]])
    }


def identity_in(data: Mapping[str, Any]) -> Identity | None:
    """Return the identity that a state's document names; None for one that no agent wrote."""
    parts = [part for name in Identity._fields if isinstance(part := data.get(name), str) and part]
    return Identity(*parts) if len(parts) == len(Identity._fields) else None


def _order(stored: Stored) -> tuple[int, int]:
    return (stored.data["epoch"], stored.data["revision"])
