"""Finding documents by any of their fields, through the queries that there are."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from firestate.queries import LOOK_UP_EVENTS, first_that_fits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

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


class Parent(NamedTuple):
    """Whose children are looked for; what is None may be any."""

    agent_id: str
    agent_type: str | None = None
    session_id: str | None = None

    def is_known_by_id_alone(self, child: Mapping[str, object]) -> bool:
        """Whether a child was stored by a release that named its parent by the id alone."""
        named = self.agent_type is not None or self.session_id is not None
        return named and child.get("parent_agent_type") is None

    def has(self, child: Mapping[str, object], spawns: Iterable[Mapping[str, object]]) -> bool:
        """Whether a state, with this parent's id, is a child of it.

        Of a child that is known by the id alone the spawn event tells: `spawns` are those of all
        agents with that id.
        """
        wanted = {
            name: value
            for name, value in (
                ("parent_agent_type", self.agent_type),
                ("parent_session_id", self.session_id),
            )
            if value is not None
        }
        if not self.is_known_by_id_alone(child):
            return is_wanted(child, wanted)
        return any(
            each.get("target_agent_type") == child["agent_type"]
            and each.get("target_agent_id") == child["agent_id"]
            and self.agent_type in (None, each.get("source_agent_type"))
            and self.session_id in (None, each.get("session_id"))
            for each in spawns
        )


def children_among(store: Store, parent: Parent, found: Iterable[Stored]) -> Iterator[Stored]:
    """Return those of the states `found`, which name the parent's id, that are its children.

    The spawn events of agents with this id are read once, if a child is known by that alone.
    """
    spawns: list[Mapping[str, object]] | None = None
    for each in found:
        if parent.is_known_by_id_alone(each.data) and spawns is None:
            wanted = {"source_agent_id": parent.agent_id, "event_type": "spawn"}
            spawns = [event.data for event in look_up(store, LOOK_UP_EVENTS, wanted)]
        if parent.has(each.data, spawns or ()):
            yield each


def is_wanted(data: Mapping[str, object], wanted: Mapping[str, object]) -> bool:
    """Whether a document's fields are as `wanted`."""
    return all(
        data.get(name) in (value if isinstance(value, list) else [value])
        for name, value in wanted.items()
    )
