"""firestore.indexes.json holds what the queries need, no more and no less."""

from __future__ import annotations

import ast
import copy
import json
from pathlib import Path
from typing import Any

import pytest

import firestate
from firestate import queries
from firestate.counters.ledger import new_row
from firestate.derive.memory import memory_document
from firestate.derive.memory_events import EventsPart
from firestate.derive.memory_rows import fold_rows
from firestate.errors import FieldProblem, InvalidMessageError
from firestate.ingest.events import event_creation
from firestate.ingest.refusal import quarantine_creation
from firestate.ingest.states import decide_state
from firestate.limits import MAX_STATE_BYTES, MAX_VALUES
from firestate.queries import SHAPES, Shape
from firestate.schema.messages import EventMessage, StateMessage
from firestate.stores.protocol import Create
from tests.harness import NOW, event_message, state_message
from tests.unit.index_entries import MOST_BYTES, MOST_ENTRIES, MOST_ENTRY_BYTES, entries
from tests.unit.index_use import problems
from tests.unit.largest_messages import EXTREMES, LAST_DAY, WHO
from tools.indexes import FILE, indexes, text

PACKAGE = Path(firestate.__file__).parent
CONTENT: dict[str, Any] = json.loads(FILE.read_text())
ASKED_FOR = {
    "agent_states: agent_type status last_active",
    "agent_states: session_id status",
    "agent_states: parent_agent_id created_at",
    "agent_states: status last_active",
    "coordination: event_type timestamp",
    "coordination: source_agent_id timestamp",
    "coordination: event_type success timestamp",
    "coordination: source_agent_type target_agent_type timestamp",
    "agent_memory: agent_type last_memory_sync",
    "agent_memory: memory_count last_memory_sync",
}


def test_the_file_is_up_to_date() -> None:
    """It is what `python -m tools.indexes` makes of the queries."""
    assert FILE.read_text() == text(indexes(SHAPES.values()))


def test_each_query_has_its_index_and_each_index_its_query() -> None:
    """Judged without the code that makes the file."""
    assert problems(CONTENT) == []


@pytest.mark.parametrize("part", ["indexes", "fieldOverrides"])
def test_an_index_less_or_more_is_found(part: str) -> None:
    """Whichever is removed, or turned round, or added to."""
    for number in range(len(CONTENT[part])):
        fewer = copy.deepcopy(CONTENT)
        fewer[part].pop(number)
        assert problems(fewer), CONTENT[part][number]
    for number, index in enumerate(CONTENT["indexes"]):
        other = copy.deepcopy(CONTENT)
        last = other["indexes"][number]["fields"][-1]
        last["order"] = "ASCENDING" if last["order"] == "DESCENDING" else "DESCENDING"
        assert problems(other), index
        more = copy.deepcopy(CONTENT)
        more["indexes"].append({**index, "fields": index["fields"][1:]})
        assert problems(more), index
    more = copy.deepcopy(CONTENT)
    entry = {"order": "ASCENDING", "queryScope": "COLLECTION"}
    more["fieldOverrides"].append(
        {"collectionGroup": "agent_states", "fieldPath": "current_task", "indexes": [entry]}
    )
    assert problems(more)


def test_a_new_query_without_an_index_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shape that somebody adds needs an index of its own, in its own direction."""
    new = Shape("agent_states", ("agent_type", "status"), order_by=("last_active",))
    monkeypatch.setitem(SHAPES, "NEW", new)
    assert problems(CONTENT) == ["NEW has 0 indexes"]
    assert problems(indexes(SHAPES.values())) == []


@pytest.mark.parametrize(
    ("shape", "index"),
    [
        # https://firebase.google.com/docs/firestore/query-data/queries#query_limitations and
        # .../query-data/indexing: a range or an order beside an equality, by its direction
        (Shape("c", ("state",), order_by=("population",), descending=True), "state ^ population v"),
        (Shape("c", ("state",), within="population"), "state ^ population ^"),
        (Shape("c", ("a", "b"), within="n", order_by=("n",), descending=True), "a ^ b ^ n v"),
        (Shape("c", order_by=("x", "y"), descending=True), "x v y v"),
        # .../query-data/aggregation-queries: a sum beside an equality
        (Shape("c", ("city",), sums=("population",)), "city ^ population ^"),
    ],
)
def test_examples_of_firestore(shape: Shape, index: str) -> None:
    """As its documentation has them: `^` is ascending, `v` descending."""
    (made,) = indexes([shape])["indexes"]
    arrows = {"ASCENDING": "^", "DESCENDING": "v"}
    fields = [f"{each['fieldPath']} {arrows[each['order']]}" for each in made["fields"]]
    assert " ".join(fields) == index


def test_a_sum_over_all_collections_of_a_name() -> None:
    """It needs one index of its field, over the group."""
    made = indexes([Shape("c", sums=("a.b",), group=True)])
    assert made["indexes"] == []
    assert {
        "collectionGroup": "c",
        "fieldPath": "a.b",
        "indexes": [{"order": "ASCENDING", "queryScope": "COLLECTION_GROUP"}],
    } in made["fieldOverrides"]


def test_what_firestore_would_not_sort_so() -> None:
    """A range on one field cannot be sorted by another first."""
    with pytest.raises(ValueError, match="range first"):
        indexes([Shape("things", within="a", order_by=("b",))])


def test_the_indexes_that_were_asked_for() -> None:
    """Those that the design names are among them."""
    there = {
        f"{index['collectionGroup']}: {' '.join(field['fieldPath'] for field in index['fields'])}"
        for index in CONTENT["indexes"]
    }
    assert there >= ASKED_FOR


def test_queries_are_made_in_one_place() -> None:
    """No other module builds one, or asks Google's client by itself."""
    makers = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = node.func
                name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
                if name in {"Query", "Shape", "collection", "collection_group", "where"}:
                    makers.add(path.relative_to(PACKAGE).as_posix())
    assert makers == {"queries.py", "stores/firestore.py"}
    assert set(SHAPES.values()) >= {
        each for name, ways in vars(queries).items() if name.startswith("LOOK_UP_") for each in ways
    }


def largest_documents() -> dict[str, dict[str, Any]]:
    """Give documents that hold as much as is accepted, by path."""
    documents = {}
    most_values = {str(number): 0 for number in range(MAX_VALUES - 3_000)}
    states = {
        **EXTREMES,
        "most values": WHO
        | {
            "memory_context": most_values,
            "parent_agent_id": "p" * 400,
            "parent_agent_type": "P" * 400,
            "parent_session_id": "s" * 400,
            "performance_metrics": {str(number): 1 for number in range(1_000)},
        },
    }
    for name, changes in states.items():
        message = StateMessage.model_validate(state_message(1, **changes))
        creation = decide_state(None, message, LAST_DAY, of_any_age=True).write
        assert isinstance(creation, Create)
        identity, state = message.identity, dict(creation.data)
        row = new_row(None, identity, state["counted_version"], NOW, state["contribution"])
        memory = memory_document(
            identity.agent_type, identity.agent_id, fold_rows([row]), EventsPart()
        )
        for path, document in (
            (identity.state_path, state),
            (identity.row_path, row),
            (identity.memory_path, memory),
        ):
            documents[f"{path}#{name}"] = document
    body = event_message(
        "e" * 400,
        context=most_values,
        source_agent_id="s" * 400,
        source_agent_type="S" * 400,
        target_agent_id="t" * 400,
        target_agent_type="T" * 400,
    )
    event = event_creation(EventMessage.model_validate(body), NOW)
    documents[event.path] = dict(event.data)
    faults = [FieldProblem("f" * 500, "r" * 500)] * 50
    error = InvalidMessageError("schema", faults)
    attributes = {f"{number}" * 50: "v" * 1_000 for number in range(100)}
    kept = quarantine_creation("agent-state", b"x" * MAX_STATE_BYTES, attributes, error, NOW)
    documents[kept.path] = dict(kept.data)
    return documents


def test_the_largest_documents_stay_within_the_limits_of_indexing() -> None:
    """By computation: 40,000 entries a document, 7.5 KiB an entry, 8 MiB in all."""
    sizes = {path: entries(path, each, CONTENT) for path, each in largest_documents().items()}
    assert max(len(each) for each in sizes.values()) <= len(CONTENT["indexes"])
    assert max(len(each) for each in sizes.values()) < MOST_ENTRIES
    assert max(sum(each) for each in sizes.values()) < MOST_BYTES
    assert max(max(each) for each in sizes.values()) < MOST_ENTRY_BYTES


def test_with_automatic_indexes_they_would_not() -> None:
    """Were nothing exempt, what is accepted would be refused by Firestore, and come again."""
    automatic = {"indexes": CONTENT["indexes"], "fieldOverrides": []}
    counts = [len(entries(path, each, automatic)) for path, each in largest_documents().items()]
    assert max(counts) > MOST_ENTRIES
