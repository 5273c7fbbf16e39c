"""firestore.rules, on the emulator: who may do what, and with which content."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from firestate.queries import SHAPES
from tests.rules.access_matrix import CONTROLS, ROLES, RULES, expected, measured
from tests.rules.client import guarded_by
from tests.rules.controls_cases import INVALID, OTHER_TIME, VALID, try_controls
from tests.rules.rule_coverage import RuleCoverage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firestate.queries import Shape
    from tests.rules.client import Person, RulesClient


@pytest.fixture(scope="module")
def emulator() -> Iterator[RulesClient]:
    with guarded_by(RULES) as started:
        yield started


@pytest.fixture
def operator(emulator: RulesClient) -> Person:
    return emulator.somebody(ROLES["operator"])


@pytest.mark.parametrize(("path", "role"), expected())
def test_the_matrix(emulator: RulesClient, path: str, role: str) -> None:
    """Each role may do with each document what the table says, and nothing else."""
    assert measured(emulator, path, role) == expected()[path, role]


@pytest.mark.parametrize("name", VALID)
def test_controls_that_are_taken(emulator: RulesClient, operator: Person, name: str) -> None:
    """An operator creates and replaces them; a viewer does neither."""
    fields, viewer = VALID[name], emulator.somebody(ROLES["viewer"])
    emulator.owner.delete(CONTROLS)
    assert not viewer.create(CONTROLS, fields)
    assert operator.create(CONTROLS, fields)
    assert operator.update(CONTROLS, fields)
    assert not viewer.update(CONTROLS, fields)


@pytest.mark.parametrize("name", INVALID)
def test_controls_that_are_refused(emulator: RulesClient, operator: Person, name: str) -> None:
    """Each field by its type, at the first write and at a later one."""
    owner = emulator.owner
    owner.delete(CONTROLS)
    assert not operator.create(CONTROLS, INVALID[name])
    owner.create(CONTROLS, {})
    assert not operator.update(CONTROLS, INVALID[name])
    (field,) = INVALID[name]
    assert not operator.update(CONTROLS, INVALID[name], mask=[field])


def test_the_time_of_controls(emulator: RulesClient, operator: Person) -> None:
    """It is that of the request: not left out, not chosen, not left as it was."""
    owner = emulator.owner
    for fields in ({}, {"last_updated": OTHER_TIME}, {"last_updated": 7}):
        owner.delete(CONTROLS)
        assert not operator.create(CONTROLS, fields, stamped=False)
        owner.create(CONTROLS, {})
        assert not operator.update(CONTROLS, fields, stamped=False)
    stop = {"emergency_stop": True}
    assert not operator.update(CONTROLS, stop, stamped=False, mask=["emergency_stop"])
    assert operator.update(CONTROLS, stop, mask=["emergency_stop"])


def structured(shape: Shape) -> tuple[dict[str, Any], str]:
    """Give a query as REST has it, and the document that it lies below."""
    parents = {
        "sessions": "agent_memory/x",
        "parts": "quarantine/x",
        "legacy": "agent_states/x",
    }
    parent, _, name = shape.collection.rpartition("/")
    query: dict[str, Any] = {"from": [{"collectionId": name, "allDescendants": shape.group}]}
    filters = [
        {"fieldFilter": {"field": {"fieldPath": field}, "op": op, "value": {"stringValue": "a"}}}
        for field, op in [
            *((each, "EQUAL") for each in shape.equal),
            *((each, "LESS_THAN") for each in [shape.within] if each),
        ]
    ]
    if filters:
        query["where"] = {"compositeFilter": {"op": "AND", "filters": filters}}
    direction = "DESCENDING" if shape.descending else "ASCENDING"
    query["orderBy"] = [
        {"field": {"fieldPath": each}, "direction": direction} for each in shape.order_by
    ]
    return query, "" if shape.group else parent or parents.get(name, "")


@pytest.mark.parametrize("name", SHAPES)
def test_queries(emulator: RulesClient, name: str) -> None:
    """Whoever may list a collection may query it; nobody may query all collections of a name."""
    query, parent = structured(SHAPES[name])
    shape = SHAPES[name]
    readers = {"operator"} if shape.collection == "parts" else {"viewer", "operator"}
    allowed = {
        role for role, claims in ROLES.items() if emulator.somebody(claims).query(query, parent)
    }
    assert allowed == (set() if shape.group else readers)


def test_every_expression_is_tried_both_ways() -> None:
    """On an emulator of its own: each has been evaluated, those of truth as true and as false."""
    with guarded_by(RULES) as emulator:
        for path, role in expected():
            measured(emulator, path, role)
        try_controls(emulator)
        covered = RuleCoverage.by(emulator.coverage())
    assert covered.source == RULES.read_text()
    assert covered.expressions > 50
    assert covered.unevaluated == []
    assert covered.one_sided == []
