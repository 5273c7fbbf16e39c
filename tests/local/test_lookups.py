"""Queries on SQLite: along indexes, and with the results that a scan of everything gives."""

from __future__ import annotations

import dataclasses
import random
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from firestate.errors import DamagedDocumentError
from firestate.local.indexes import INDEXES
from firestate.queries import BY_STATUS, CURRENT_STATUSES, SHAPES
from firestate.stores.ordering import matches, sort_key
from firestate.stores.protocol import Create, Query, Remove, Stored, Update, Where
from firestate.stores.sqlite import SqliteStore
from firestate.stores.sqlite_lookups import After, Index, damaged_in, order_of, page_of, past_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firestate.queries import Shape

_LATER = datetime(2026, 11, 23, tzinfo=UTC)
_VALUES: list[Any] = [
    None, True, False, 0, 1, -3, 2.5, 10**12, "", "a", "b", "a\0b", "é", "1", _LATER,
    _LATER + timedelta(microseconds=1), [1], ["a"], {"x": 1}, {},
]  # fmt: skip
_OPERATORS = ("==", "<", "<=", ">", ">=")
_MIXED = [Index("things", ("a",), ("b",)), Index("things", (), ("b", "c")), Index("things", (), ())]


@pytest.fixture
def store() -> Iterator[SqliteStore]:
    store = SqliteStore(None, (), [*INDEXES, *_MIXED[:2]])
    yield store
    store.close()


def plan_of(store: SqliteStore, statement: Any) -> list[str]:
    """Return the steps of SQLite's plan."""
    found = store._file.execute(f"EXPLAIN QUERY PLAN {statement.text}", statement.values)
    return [step for *_, step in found]


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("after", [None, "document", "rank"])
def test_each_query_reads_along_an_index(store: SqliteStore, name: str, after: str | None) -> None:
    """Each page is read from one index, in its order: nothing is scanned or sorted."""
    shape: Shape = SHAPES[name]
    low = None if shape.within is None else "x"
    query = shape.query(dict.fromkeys(shape.equal, "x"), low=low)
    columns = [3, "x"] * len(order_of(query))
    if after == "rank" and not columns:
        return
    begin = {None: None, "document": After((*columns, "p")), "rank": After((3,))}[after]
    (step,) = plan_of(store, page_of(query, 1, begin, 10, store._file.indexes))
    if query.where or query.order_by:
        assert f"USING INDEX {name_of(query)}" in step
        assert step.startswith("SEARCH") or not query.where
    else:
        assert step.startswith("SEARCH documents USING INDEX documents_by_kind (kind=?")
    (past,) = plan_of(store, past_of(query, 1))
    assert past == "SEARCH past USING INDEX past_by_until (kind=? AND until>?)"
    (damaged,) = plan_of(store, damaged_in(query, 1, store._file.indexes))
    assert damaged == "SEARCH documents USING INDEX documents_damaged (kind=?)"


def name_of(query: Query) -> str:
    equal = tuple(each.field for each in query.where if each.operator == "==")
    return Index(query.collection, equal, order_of(query)).name


def test_an_index_less_is_found() -> None:
    """Without its index a query is a scan, and the plan says so."""
    with closing(SqliteStore()) as store:
        query = BY_STATUS.query({"status": "idle"})
        plan = plan_of(store, page_of(query, 1, None, 10, store._file.indexes))
        assert any("TEMP B-TREE" in step for step in plan)


def scanned(every: list[Stored], query: Query) -> list[str]:
    """Return the paths that a query finds, in their order, by looking at all documents."""
    keyed = []
    for each in every:
        keys = [sort_key(each.data, name) for name in order_of(query)]
        if matches(each.data, query.where) and None not in keys:
            keyed.append(((*keys, each.path), each.path))
    keyed.sort(reverse=query.descending)
    return [path for _, path in keyed][: query.limit]


def random_query(chance: random.Random) -> Query:
    where = []
    if chance.random() < 0.7:
        some = chance.sample(_VALUES, 3)
        where.append(chance.choice([Where("a", "==", some[0]), Where("a", "in", some)]))
    order = chance.choice([[], ["b"], ["b", "c"]])
    if chance.random() < 0.5:
        value = chance.choice([each for each in _VALUES if not isinstance(each, list | dict)])
        where.append(Where("b", chance.choice(_OPERATORS[1:]), value))
    limit = chance.choice([None, None, 1, 4, 30])
    down = bool(order) and chance.random() < 0.5
    return Query("things", where, order, descending=down, limit=limit)


@pytest.mark.parametrize("seed", range(20))
def test_a_query_finds_what_a_scan_finds(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Whatever the types of values, over many pages, now and as of an earlier time."""
    monkeypatch.setattr("firestate.stores.sqlite_queries._PAGE", 3)
    chance = random.Random(seed)

    def document() -> dict[str, Any]:
        found = {name: chance.choice(_VALUES) for name in "abc" if chance.random() < 0.9}
        # What SQLite sorts by is cut at a NUL: no field that queries are sorted by can hold one.
        return {k: v for k, v in found.items() if k == "a" or v != "a\0b"}

    store.commit([Create(f"things/{number}", document()) for number in range(60)])
    store.commit([Create("things/1/things/x", {"a": 1, "b": 1, "c": 1})])
    every = list(store.query(Query("things")))
    at = store.now()
    for each in every[::3]:
        store.commit([Update(each.path, each.token, document())])
    store.commit([Remove(each.path, each.token) for each in every[1::7] if each not in every[::3]])
    now = list(store.query(Query("things")))
    for _ in range(40):
        query = random_query(chance)
        assert [each.path for each in store.query(query)] == scanned(now, query), query
        assert [each.path for each in store.query(query, at=at)] == scanned(every, query), query


def test_what_is_written_between_two_pages(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A query that has begun finds each document once, as it was when it began."""
    monkeypatch.setattr("firestate.stores.sqlite_queries._PAGE", 3)
    store.commit([Create(f"things/{n}", {"a": 1, "b": n}) for n in range(9)])
    query = Query("things", [Where("a", "in", [1, 2])], ["b"])
    found = []
    for each in store.query(query):
        found.append(each.data["b"])
        for path in (f"things/{8 - len(found)}", "things/0"):
            if known := store.read(path):
                new = [Update(path, known.token, {"b": known.data["b"] + 20})]
                store.commit(new if len(found) % 2 else [Remove(path, known.token)])
    assert found == list(range(9))


def test_a_document_that_is_none_is_told_by_each_query(store: SqliteStore) -> None:
    """Where SQL cannot look into a document, nobody takes it for one that does not match."""
    store.commit([Create("agent_states/a", {"status": "idle", "last_active": _LATER})])
    for damage in ("{", "[1]", "{a:1}"):
        store._file.execute("UPDATE documents SET data = ?", (damage,))
        with pytest.raises(DamagedDocumentError, match="agent_states/a is damaged"):
            list(store.query(BY_STATUS.query({"status": "busy"})))


def test_the_newest_of_many_costs_what_the_newest_of_few_costs(store: SqliteStore) -> None:
    """SQLite runs as many instructions for the newest of 1,000 states as for that of 100."""
    query = BY_STATUS.query({"status": CURRENT_STATUSES}, limit=1)

    def instructions() -> int:
        count = [0]

        def step() -> int:
            count[0] += 1
            return 0

        store._file._connection.set_progress_handler(step, 1)
        assert len(list(store.query(query))) == 1
        store._file._connection.set_progress_handler(None, 1)
        return count[0]

    def fill(numbers: range) -> None:
        for n in numbers:
            state = {"status": CURRENT_STATUSES[n % 4], "last_active": _LATER + timedelta(n)}
            store.commit([Create(f"agent_states/{n}", state)])

    fill(range(100))
    few = instructions()
    fill(range(100, 1_000))
    assert instructions() < few * 1.2


def test_a_field_with_a_quote_and_a_dot(store: SqliteStore) -> None:
    """Names of fields are names, whatever they hold."""
    store.commit([Create("things/a", {"it's": {"n": 1}}), Create("things/b", {"it's": {"n": 2}})])
    query = Query("things", [Where("it's.n", ">", 1)])
    assert [each.id for each in store.query(query)] == ["b"]
    assert [each.id for each in store.query(dataclasses.replace(query, limit=0))] == []
