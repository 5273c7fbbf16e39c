"""What hypothesis draws for agents to save: values as nasty as a user's can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from firestate.limits import INT64_MAX, INT64_MIN, MAX_KEY_BYTES

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

marks = st.text(alphabet='[]{}",:\\_ \n\x00\u00e4\U0001f600N', max_size=8)
"""What looks like JSON, inside of texts."""

texts = st.one_of(
    marks,
    st.sampled_from(
        [
            "",
            "__x__",
            "__",
            "____",
            "__x",
            '"__x__":',
            '"":',
            "NaN",
            "-Infinity",
            "9" * 25,
            "[[1]]",
            ",[",
            "\\",
            '\\"',
            "\\\\",
            "\u2028",
        ]
    ),
)

halves = st.sampled_from(["\ud800", "a\udfff", "\udc00\ud800"])


@st.composite
def long_texts(draw: st.DrawFn) -> str:
    """Draw a text of about 1,500 bytes, escaped in JSON in many ways."""
    unit = draw(st.sampled_from(["x", '"', "\\", '\\"', "\n", "\x01", "\u00e4", "\U0001f600", "{"]))
    size = MAX_KEY_BYTES + draw(st.integers(-2, 2))
    text = unit * (size // len(unit.encode()))
    return text + "y" * (size - len(text.encode()))


keys = st.one_of(st.text("abc", min_size=1, max_size=3), texts, long_texts())

numbers = st.one_of(
    st.integers(-9, 9),
    st.sampled_from([INT64_MAX, INT64_MIN, INT64_MAX + 1, INT64_MIN - 1, 10**18, 10**25]),
    st.floats(),
)

scalars = st.one_of(st.none(), st.booleans(), numbers, texts, long_texts())


def _around(inner: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3))


values = st.recursive(scalars, _around, max_leaves=6)
"""JSON values, of which Firestore refuses about a half."""


@st.composite
def deep(draw: st.DrawFn) -> Any:
    """Draw a map whose nesting is about as deep as is allowed, with brackets inside of texts."""
    value: Any = draw(st.one_of(texts, st.just({}), st.just([]), st.integers(0, 9)))
    for level in range(draw(st.integers(15, 22))):
        key = draw(st.sampled_from(["a", "[[[", "{", '"{', "\\", '\\"]']))
        beside = draw(st.sampled_from([{}, {"}}": "]]"}, {"b": "\\"}]))
        value = [value, "[{"] if level % 2 and isinstance(value, dict) else {key: value, **beside}
    return {"a": value} if isinstance(value, list) else value


maps = st.one_of(st.dictionaries(keys, values, max_size=3), deep())

CHANGES: dict[str, SearchStrategy[Any]] = {
    "memory_context": maps,
    "agent_config": maps,
    "collaboration_context": st.one_of(maps, values),
    "task_history": st.one_of(st.lists(maps, max_size=3), values),
    "performance_metrics": st.one_of(st.dictionaries(keys, numbers, max_size=3), maps),
    "current_task": st.one_of(scalars, maps),
    "status": st.sampled_from(["idle", "busy", "", None, 1, "BUSY"]),
    "task_status": st.sampled_from(["pending", None, "no", False]),
    "tools_enabled": st.one_of(st.lists(texts, max_size=3), values),
    "parent_agent_id": st.one_of(texts, long_texts(), st.none()),
    "unknown": scalars,
}

some_changes = st.fixed_dictionaries({}, optional=CHANGES)
one_change = st.sampled_from(sorted(CHANGES)).flatmap(
    lambda name: st.fixed_dictionaries({name: CHANGES[name]})
)
changes = st.one_of(one_change, some_changes)
