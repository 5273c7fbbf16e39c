"""What every store must do with what it is given. A store's tests give a `store` fixture."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from firestate.errors import ConflictError, RefusedError
from firestate.limits import MAX_DEPTH
from firestate.stores.protocol import Add, Create, Remove, Store, Update

if TYPE_CHECKING:
    from collections.abc import Callable

NOON = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
VALUES: dict[str, Any] = {
    "nothing": None,
    "yes": True,
    "whole": 2**63 - 1,
    "negative": -(2**63),
    "real": 0.1,
    "one": 1.0,
    "text": "Grüße 🌍\x00",
    "time": NOON,
    "list": [1, "two", None, {"three": [3]}],
    "map": {"a.b": {"c/d": 1, "`": 2, "": 0} | {"~": 3}, "*": 4},
    "empty_map": {},
    "empty_list": [],
    "bytes": b"\x00\xff",
}
VALUES["map"]["a.b"].pop("")


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


class WritesContract:
    """The suite of writes."""

    def test_create_then_read(self, store: Store) -> None:
        """What is created is read back as it was, value by value and type by type."""
        store.commit([Create("things/one", VALUES)])
        read = store.read("things/one")
        assert read is not None
        assert read.path == "things/one"
        assert read.id == "one"
        assert read.data == VALUES
        assert type(read.data["one"]) is float
        assert type(read.data["whole"]) is int

    def test_create_what_is_there(self, store: Store) -> None:
        """Creating a document that is there is a conflict, and changes nothing."""
        store.commit([Create("things/one", {"a": 1})])
        with pytest.raises(ConflictError, match="things/one"):
            store.commit([Create("things/one", {"a": 2})])
        assert store.read("things/one").data == {"a": 1}  # type: ignore[union-attr]

    def test_update_replaces_top_level_fields(self, store: Store) -> None:
        """An update replaces whole fields, takes dots in names literally, and removes."""
        store.commit([Create("things/one", {"a.b": {"x": 1}, "c": 2, "d": 3})])
        read = store.read("things/one")
        assert read is not None
        store.commit([Update("things/one", read.token, {"a.b": {"y": 2}}, ["c", "gone"])])
        assert store.read("things/one").data == {"a.b": {"y": 2}, "d": 3}  # type: ignore[union-attr]

    @pytest.mark.parametrize("meanwhile", ["written", "deleted", "never there"])
    def test_update_of_what_changed(self, store: Store, meanwhile: str) -> None:
        """An update is refused unless the document is as it was when the token was read."""
        store.commit([Create("things/one", {"a": 1})])
        read = store.read("things/one")
        assert read is not None
        path = "things/one"
        if meanwhile == "written":
            store.commit([Update(path, read.token, {"a": 2})])
        elif meanwhile == "deleted":
            store.commit([Remove(path, read.token)])
        else:
            path = "things/other"
        with pytest.raises(ConflictError):
            store.commit([Update(path, read.token, {"a": 3})])

    def test_add_makes_and_adds(self, store: Store) -> None:
        """Adding makes a missing document, adds at any depth, and leaves the rest alone."""
        store.commit([Add("things/sum", {"n": 1, "by": {"a.b": 2, "`": 1}})])
        store.commit([Add("things/sum", {"n": -3, "by": {"a.b": 5, "c": 1}})])
        read = store.read("things/sum")
        assert read is not None
        assert read.data == {"n": -2, "by": {"a.b": 7, "`": 1, "c": 1}}

    def test_add_stamps_the_time(self, store: Store) -> None:
        """Named maps get the time of the commit."""
        before = datetime.now(UTC) - timedelta(minutes=1)
        store.commit([Add("things/sum", {"s": {"x": {"n": 1}}}, [("s", "x")])])
        read = store.read("things/sum")
        assert read is not None
        assert read.data["s"]["x"]["n"] == 1
        assert read.data["s"]["x"]["at"] > before

    def test_commit_is_all_or_nothing(self, store: Store) -> None:
        """If one write of a commit is refused none is done."""
        store.commit([Create("things/one", {"a": 1})])
        with pytest.raises(ConflictError):
            store.commit(
                [Create("things/two", {}), Add("things/sum", {"n": 1}), Create("things/one", {})]
            )
        assert store.read("things/two") is None
        assert store.read("things/sum") is None

    def test_remove_fields(self, store: Store) -> None:
        """Fields are removed at any depth, on condition of the token."""
        store.commit([Create("things/one", {"m": {"a.b": 1, "c": 2}})])
        read = store.read("things/one")
        assert read is not None
        store.commit([Remove("things/one", read.token, [("m", "a.b")])])
        assert store.read("things/one").data == {"m": {"c": 2}}  # type: ignore[union-attr]
        with pytest.raises(ConflictError):
            store.commit([Remove("things/one", read.token, [("m", "c")])])

    def test_token_after_commit(self, store: Store) -> None:
        """The time of a commit is the token of what it wrote."""
        token = store.commit([Create("things/one", {"a": 1})])
        store.commit([Update("things/one", token, {"a": 2})])
        assert store.read("things/one").data == {"a": 2}  # type: ignore[union-attr]

    def test_a_write_that_changes_nothing(self, store: Store) -> None:
        """It leaves the document's token, and so the conditions of others, as they are."""
        store.commit([Create("things/one", {"a": {"b": 1}})])
        read = store.read("things/one")
        assert read is not None
        store.commit([Update("things/one", read.token, {"a": {"b": 1}}, ["absent"])])
        again = store.read("things/one")
        assert again is not None
        assert again.token == read.token

    def test_remove_a_document(self, store: Store) -> None:
        """A document is removed on condition of its token, and can be created again."""
        store.commit([Create("things/one", {"a": 1}), Create("things/one/parts/1", {})])
        read = store.read("things/one")
        assert read is not None
        store.commit([Remove("things/one", read.token)])
        assert store.read("things/one") is None
        assert store.read("things/one/parts/1") is not None
        with pytest.raises(ConflictError):
            store.commit([Remove("things/one", read.token)])
        store.commit([Create("things/one", {"a": 2})])
        assert store.read("things/one").data == {"a": 2}  # type: ignore[union-attr]

    def test_several_writes_of_one_document(self, store: Store) -> None:
        """The writes of a commit are done in their order."""
        store.commit([Create("things/one", {"n": 1}), Add("things/one", {"n": 2})])
        assert store.read("things/one").data == {"n": 3}  # type: ignore[union-attr]

    def test_add_from_many_threads(self, store: Store) -> None:
        """No addition is lost, whoever adds at the same time."""
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda _: store.commit([Add("things/sum", {"n": 1})]), range(40)))
        assert store.read("things/sum").data == {"n": 40}  # type: ignore[union-attr]

    def test_one_of_many_wins(self, store: Store) -> None:
        """Of many updates on the same token one is done, the others are refused."""
        store.commit([Create("things/one", {"n": 0})])
        read = store.read("things/one")
        assert read is not None
        token = read.token

        def attempt(number: int) -> bool:
            try:
                store.commit([Update("things/one", token, {"n": number})])
            except ConflictError:
                return False
            return True

        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(attempt, range(1, 9))) == 1

    def test_deepest_document_that_the_schema_accepts(self, store: Store) -> None:
        """A field nested as deep as the schema accepts can be stored and read."""
        data = {"deep": nested(MAX_DEPTH)}
        store.commit([Create("things/deep", data)])
        assert store.read("things/deep").data == data  # type: ignore[union-attr]

    @pytest.mark.parametrize(
        "write",
        [
            lambda: Create("things/a", {"list": [[1]]}),
            lambda: Create("things/a", {"deep": nested(MAX_DEPTH + 5)}),
            lambda: Create("things/a", {"big": "x" * 1_100_000}),
            lambda: Add("things/a", {f"{n}{'x' * 1_000}": 1 for n in range(1_100)}),
            lambda: Create("things/a", {"whole": 2**64}),
        ],
        ids=["array in array", "too deep", "too big", "too big by adding", "too large a number"],
    )
    def test_refusals(self, store: Store, write: Callable[[], Create | Add]) -> None:
        """What the store will never take is refused as such, not as a passing fault."""
        with pytest.raises(RefusedError, match="things/a"):
            store.commit([write()])
