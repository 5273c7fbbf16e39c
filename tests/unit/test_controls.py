"""What the command line may write to the controls is what the rules let an operator write."""

from __future__ import annotations

from typing import Any

import pytest

from firestate.errors import ConfigurationError, DamagedDocumentError
from firestate.limits import MAX_REASON
from firestate.operations.operator_controls import problems_of_controls, with_emergency, with_flag
from tests.rules.controls_cases import INVALID, VALID


@pytest.mark.parametrize("name", VALID)
def test_what_the_rules_allow(name: str) -> None:
    """Nothing is found wrong with it."""
    assert not list(problems_of_controls(VALID[name]))


@pytest.mark.parametrize("name", INVALID)
def test_what_the_rules_refuse(name: str) -> None:
    """It is refused here as well, by the name of the field."""
    (problem,) = problems_of_controls(INVALID[name])
    assert problem.field.partition(".")[0] in INVALID[name]


@pytest.mark.parametrize("name", ["", "__x__", "\ud800", "x" * 1_501])
def test_no_names_of_flags(name: str) -> None:
    """What Firestore takes for no key is said before anything is read."""
    with pytest.raises(ConfigurationError, match="is no name of a flag"):
        with_flag(name, value=True)


@pytest.mark.parametrize(
    "reason", ["", " \n", "x" * (MAX_REASON + 1), "\U0001f525" * 501, "\ud800"]
)
def test_no_reasons(reason: str) -> None:
    """Empty, too long as the rules count (an emoji is two), or no text."""
    with pytest.raises(ConfigurationError, match="the reason"):
        with_emergency(reason)


@pytest.mark.parametrize("reason", ["x", "x" * MAX_REASON, "\U0001f525" * 500])
def test_reasons(reason: str) -> None:
    """They are kept to the letter."""
    assert with_emergency(reason)({}) == {"emergency_stop": True, "emergency_reason": reason}


def test_flags() -> None:
    """One is set, the others stay; a damaged one is put right by setting it."""
    before: dict[str, Any] = {"feature_flags": {"a": True, "b": 1}, "emergency_stop": True}
    assert with_flag("b", value=True)(before) == {**before, "feature_flags": {"a": True, "b": True}}
    assert with_flag("b", value=None)(before) == {**before, "feature_flags": {"a": True}}
    assert with_flag("a", value=True)(before) is None
    assert with_flag("c", value=None)(before) is None
    assert with_flag("c.d", value=False)({}) == {"feature_flags": {"c.d": False}}
    assert with_flag("n", value=None)({"feature_flags": {"n": None}}) == {"feature_flags": {}}
    with pytest.raises(DamagedDocumentError, match="feature_flags"):
        with_flag("a", value=True)({"feature_flags": ["a"]})
    assert before["feature_flags"] == {"a": True, "b": 1}, "what was read is not changed"


def test_lifting() -> None:
    """The reason goes with the stop; where there is none, nothing is to be done."""
    stopped = {"emergency_stop": True, "emergency_reason": "fire"}
    lifted = {"emergency_stop": False, "emergency_reason": None}
    assert with_emergency(None)(stopped) == lifted
    assert with_emergency(None)(lifted) is None
    assert with_emergency(None)({}) is None
    assert with_emergency("fire")(stopped) is None
    assert with_emergency("flood")(stopped) == {**stopped, "emergency_reason": "flood"}
