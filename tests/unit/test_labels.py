"""Words of users as keys of counters."""

from __future__ import annotations

from operator import add
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firestate.audit.recount import _heaviest
from firestate.audit.recount_tasks import key_of
from firestate.counters.labels import bounded, label
from firestate.limits import MAX_LABEL_BYTES, MAX_LABELS
from firestate.schema.values import problems_of
from tests.unit.strategies import texts, words

awkward = st.one_of(words, texts, texts.map(lambda t: f"__{t * 40}__{t}"))


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("code", "code"),
        ("a.b`c", "a.b`c"),
        ("__x__", "~__x__"),
        ("", "none"),
        (None, "none"),
        (7, "none"),
        ("x" * 200, "x" * 128),
        ("ö" * 100, "ö" * 64),
        ("x" + "ö" * 100, "x" + "ö" * 63),
        ("__" + "a" * 124 + "__ and more", "~__" + "a" * 124 + "_"),
    ],
)
def test_label(value: Any, key: str) -> None:
    """A word becomes a key of at most 128 bytes that Firestore takes."""
    assert label(value, "none") == key


@given(awkward)
def test_every_word_becomes_a_good_key(word: str) -> None:
    """Whatever the word, the key is one that can be written; the recount agrees on it."""
    key = label(word, "none")
    assert list(problems_of({key: 1}, "")) == []
    assert len(key.encode()) <= MAX_LABEL_BYTES
    assert key == (key_of(word) or "none")


@given(st.dictionaries(st.one_of(st.integers(0, 200).map(str), st.just("other")), st.integers(1)))
def test_bounded(counts: dict[str, int]) -> None:
    """At most 64 keys stay, nothing is lost, the heaviest keep their own."""
    kept = bounded(counts, int, add)
    assert len(kept) <= MAX_LABELS
    assert sum(kept.values()) == sum(counts.values())
    assert bounded(dict(reversed(counts.items())), int, add) == kept
    assert _heaviest(counts) == kept


def test_the_heaviest_stay() -> None:
    """Of a hundred kinds, the 63 with most tries are shown and the rest are `other`."""
    kept = bounded({f"k{n:03}": n for n in range(1, 101)}, int, add)
    assert kept.pop("other") == sum(range(1, 38))
    assert sorted(kept.values()) == list(range(38, 101))
