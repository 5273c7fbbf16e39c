"""Which line of a JSON document written out for people a problem's path means."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firestate.cli.json_locations import lines_of, parse, places
from firestate.schema.values import problems_of
from tests.unit.strategies import json_values

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT = """{"epoch": 1, "state": {"status": "x", "tools_enabled": ["a", 7],
 "task_history": [{"x": [[1.50]]}, {}], "memory_context": {"a.b": null, "a": {"b": -0}}}}"""


odd_keys = st.one_of(st.sampled_from([".", "[0]", "a.b", "a[0]", "0", "[", ".a", "a"]), st.text())
documents = st.one_of(
    st.dictionaries(odd_keys.filter(bool), json_values, max_size=4),
    st.lists(st.dictionaries(odd_keys, json_values, max_size=4), max_size=3),
)


def lines(text: str) -> list[str]:
    return [line.text for line in lines_of(parse(text))]


def test_one_value_a_line() -> None:
    """It is written as Python would, but for the numbers, which are as they came."""
    assert lines('{"a": [1.50, 1e999, NaN, {}, []], "b": {"ä": "\\u001b"}}') == [
        "{",
        '  "a": [',
        "    1.50,",
        "    1e999,",
        "    NaN,",
        "    {},",
        "    []",
        "  ],",
        '  "b": {',
        '    "ä": "\\u001b"',
        "  }",
        "}",
    ]


@given(json_values)
def test_any_document_is_written_as_python_would(value: Any) -> None:
    """The lines are those of `json.dumps` with an indent of two."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    assert lines(json.dumps(value)) == text.split("\n")


@pytest.mark.parametrize(
    ("field", "expected", "absent"),
    [
        ("epoch", ['  "epoch": 1,'], False),
        ("state.status", ['    "status": "x",'], False),
        ("state.tools_enabled.1", ["      7"], False),
        ("state.tools_enabled[1]", ["      7"], False),
        ("state.task_history[0].x[0]", ["          ["], False),
        ("state.task_history[0].x[0][0]", ["            1.50"], False),
        ("state.memory_context.a.b", ['      "a.b": null,', '        "b": -0'], False),
        ("state.agent_id", ['  "state": {'], True),
        ("state.task_history[5].x", ['    "task_history": ['], True),
        ("message", ["{"], True),
        ("", ["{"], True),
    ],
)
def test_the_line_of_a_field(field: str, expected: list[str], *, absent: bool) -> None:
    """Indices are read in both spellings; what is missing is at the line of what would hold it."""
    (place,) = places(parse(DOCUMENT), [field])
    written = lines(DOCUMENT)
    assert [written[number] for number in place.numbers] == expected
    assert place.absent is absent


def test_a_long_key_is_found_cut_or_whole() -> None:
    """The schema cuts keys at 60 characters in some of its paths."""
    key = "k" * 100
    document = parse(json.dumps({"state": {"other": 1, key: {"": 2}}}))
    (cut, whole) = places(document, [f"state.{key[:60]}", f"state.{key}"])
    assert cut == whole
    assert list(cut.numbers) == [3]


def test_a_key_that_comes_again() -> None:
    """Both are written, and a path to them means either."""
    document = parse('{"a": 1, "b": {"a": 2}, "a": 3}')
    assert len(list(lines_of(document))) == 7
    (place,) = places(document, ["a"])
    assert list(place.numbers) == [1, 5]


def test_json_deeper_than_python_calls() -> None:
    """What the parser can take is written, however deep the stack is by then."""
    deep = 900
    text = "[" * deep + "]" * deep
    written = lines(text)
    assert len(written) == 2 * deep - 1
    (place,) = places(parse(text), ["[0]" * (deep - 1)])
    assert list(place.numbers) == [deep - 1]


def paths_in(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Give every path below `value`, spelt as the schema spells them, in the order of the lines."""
    yield path, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths_in(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths_in(inner, f"{path}[{index}]")


@given(documents)
def test_every_path_means_the_line_that_holds_it(document: Any) -> None:
    """Whatever the keys hold, dots and brackets too, the value's own line is among those given."""
    document = json.loads(json.dumps(document))
    (_, *found) = paths_in(document)
    text = json.dumps(document)
    starts = [n for n, line in enumerate(lines(text)) if line.strip(" ,") not in ("]", "}")][1:]
    assert len(starts) == len(found)
    located = places(parse(text), [path for path, _ in found])
    for (path, _), number, place in zip(found, starts, located, strict=True):
        assert number in place.numbers, path
        assert not place.absent, path


@given(st.dictionaries(st.text(min_size=1, max_size=8), json_values, max_size=4))
def test_every_problem_of_the_schema_has_its_line(document: dict[str, Any]) -> None:
    """A path that the schema complains of is found exactly, as it is spelt there."""
    document = json.loads(json.dumps({"state": document}))
    problems = list(problems_of(document["state"], "state"))
    for problem, place in zip(
        problems,
        places(parse(json.dumps(document)), [problem.field for problem in problems]),
        strict=True,
    ):
        assert not place.absent, problem
