"""What every store must find and tell. A store's tests give a `store` fixture."""

from __future__ import annotations

import pytest

from firestate.stores.protocol import Add, Create, Query, Remove, Store, Update, Where


class ReadsContract:
    """The suite of reads and queries."""

    def test_read_of_nothing(self, store: Store) -> None:
        """A document that is not there reads as None."""
        assert store.read("things/none") is None

    def test_read_of_some_fields(self, store: Store) -> None:
        """Only the fields asked for are read."""
        data = {"whole": 1, "map": {"a": {"b": 2}}, "text": "x"}
        store.commit([Create("things/one", data)])
        read = store.read("things/one", ["whole", "map", "absent"])
        assert read is not None
        assert read.data == {"whole": 1, "map": {"a": {"b": 2}}}

    def test_read_of_many(self, store: Store) -> None:
        """Those that are there come by their paths, with the fields asked for and their tokens."""
        store.commit([Create(f"things/{n}", {"n": n, "m": 0}) for n in range(3)])
        found = store.read_many(["things/2", "things/none", "things/0"], ["n", "absent"])
        assert {path: each.data for path, each in found.items()} == {
            "things/2": {"n": 2},
            "things/0": {"n": 0},
        }
        store.commit([Update("things/2", found["things/2"].token, {"n": 5})])
        assert store.read_many([]) == {}

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            (Query("things"), {"a", "b", "c"}),
            (Query("things", [Where("n", ">", "")]), set()),
            (Query("things", [Where("absent", "==", None)]), set()),
            (Query("things", order_by=["absent"]), set()),
            (Query("things", [Where("kind", ">", "x")]), {"b"}),
            (Query("things", limit=2), {"a", "b"}),
            (Query("things", [Where("n", ">", 1)]), {"b", "c"}),
            (Query("things", [Where("kind", "==", "x"), Where("n", "<", 3)]), {"a"}),
            (Query("things", [Where("kind", "in", ["x", "y"])]), {"a", "b", "c"}),
            (Query("things", order_by=["n"], descending=True, limit=2), {"c", "b"}),
            (Query("things", order_by=["kind", "n"], descending=True, limit=2), {"b", "c"}),
            (Query("things", order_by=["kind", "absent"]), set()),
            (Query("nothing"), set()),
        ],
    )
    def test_query(self, store: Store, query: Query, expected: set[str]) -> None:
        """A query finds what meets all of its conditions."""
        for number, (name, kind) in enumerate([("a", "x"), ("b", "y"), ("c", "x")], 1):
            store.commit([Create(f"things/{name}", {"n": number, "kind": kind})])
        assert {found.id for found in store.query(query)} == expected

    def test_a_query_of_very_many(self, store: Store) -> None:
        """All are found, each once, in the order of their ids, also as of an earlier time."""
        names = [f"things/{number:04}" for number in range(450)]
        store.commit([Create(name, {"n": 1}) for name in names])
        at = store.now()
        store.commit([Add(name, {"n": 1}) for name in names[::2]])
        assert [each.path for each in store.query(Query("things"))] == names
        assert [each.data["n"] for each in store.query(Query("things"), at=at)] == [1] * 450
        assert store.total(Query("things", sums=["n"])) == {"n": 675}
        assert store.total(Query("things")) == {"count": 450}

    def test_query_of_a_group(self, store: Store) -> None:
        """A group query finds the documents of every collection of that name."""
        store.commit([Create("a/1/rows/x", {"n": 1}), Create("a/2/rows/x", {"n": 2})])
        found = {each.path: each.data["n"] for each in store.query(Query("rows", group=True))}
        assert found == {"a/1/rows/x": 1, "a/2/rows/x": 2}

    def test_query_for_some_fields(self, store: Store) -> None:
        """A query can be masked to some fields."""
        store.commit([Create("things/a", {"n": 1, "m": 2})])
        (found,) = store.query(Query("things", fields=["n"]))
        assert found.data == {"n": 1}

    def test_reads_of_the_past(self, store: Store) -> None:
        """Reads at a time see what was so at that time, whatever was written since."""
        store.commit([Create("things/a", {"n": 1})])
        at = store.now()
        read = store.read("things/a")
        assert read is not None
        store.commit([Update("things/a", read.token, {"n": 2}), Create("things/b", {"n": 5})])
        then = store.read("things/a", at=at)
        assert then is not None
        assert then.data == {"n": 1}
        assert [each.data for each in store.query(Query("things"), at=at)] == [{"n": 1}]
        assert store.total(Query("things", sums=["n"]), at=at) == {"n": 1}
        assert store.total(Query("things", sums=["n"])) == {"n": 7}
        store.commit([Remove("things/b", store.read("things/b").token)])  # type: ignore[union-attr]
        assert store.read("things/b", at=at) is None
        assert [each.data for each in store.query(Query("things"), at=at)] == [{"n": 1}]

    def test_reads_of_what_was_removed(self, store: Store) -> None:
        """A document that has been removed since is there for a read at an earlier time."""
        token = store.commit([Create("things/a", {"n": 1})])
        at = store.now()
        store.commit([Remove("things/a", token)])
        then = store.read("things/a", at=at)
        assert then is not None
        assert then.data == {"n": 1}
        assert store.total(Query("things", sums=["n"]), at=at) == {"n": 1}

    def test_now_is_after_what_was_committed(self, store: Store) -> None:
        """The store's present is no earlier than any commit before it."""
        for number in range(20):
            committed = store.commit([Create(f"things/{number}", {})])
            assert store.now() >= committed

    def test_snapshot_names_its_time(self, store: Store) -> None:
        """A snapshot is as of a time that no document in it is later than."""
        store.commit([Create("things/a", {}), Create("things/b", {})])
        snapshot = store.snapshot(Query("things"))
        assert len(snapshot.documents) == 2
        assert snapshot.read_at is not None
        assert all(each.updated_at <= snapshot.read_at for each in snapshot.documents)

    def test_snapshot_of_nothing_names_its_time(self, store: Store) -> None:
        """It is as of a time as well: what is committed from then on is later."""
        snapshot = store.snapshot(Query("things"))
        assert snapshot.documents == []
        assert snapshot.read_at is not None
        assert store.commit([Create("things/a", {})]) > snapshot.read_at

    def test_totals_of_nothing(self, store: Store) -> None:
        """Sums over nothing are zero."""
        assert store.total(Query("things", sums=["a.b", "c"])) == {"a.b": 0, "c": 0}
        assert store.total(Query("things")) == {"count": 0}

    def test_totals_of_many_sums(self, store: Store) -> None:
        """More sums than one aggregation takes are still of one query."""
        store.commit([Create("things/a", {"m": {f"f{n}": n for n in range(9)}})])
        totals = store.total(Query("things", sums=[f"m.f{n}" for n in range(9)]))
        assert totals == {f"m.f{n}": n for n in range(9)}
