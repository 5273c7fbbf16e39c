"""Where several processes run the tests, each pipeline and each suite is started by one."""

from __future__ import annotations

from pathlib import Path

from tests.workers import TOGETHER, place_of, scope_of

ROOT = Path(__file__).parents[2]
NEEDS = {
    "pipeline": ("here: Environment", "pipeline: Runner", "stage: RunningPipeline"),
    "suite": ("running: Suite",),
}
"""How a test asks for what takes long to start."""


def test_who_needs_the_same_is_kept_together() -> None:
    """Each module that asks for it, and no module that is gone is named."""
    for name, asking in NEEDS.items():
        found = {
            str(path.relative_to(ROOT))
            for path in (ROOT / "tests").rglob("test_*.py")
            if any(each in path.read_text() for each in asking) and path != Path(__file__)
        }
        found = {each for each in found if "tests/load/" not in each}  # has one of its own
        assert found
        assert {scope_of(f"{each}::test_any") for each in found} == {name}
        assert all((ROOT / each).exists() for each in TOGETHER[name])


def test_a_module_is_kept_together_and_what_takes_long_comes_first() -> None:
    """Fixtures of a module are made once."""
    assert scope_of("tests/unit/test_ids.py::test_a[x::y]") == "tests/unit/test_ids.py"
    order = ["tests/chaos/test_frozen_process.py", "tests/end_to_end/test_suite.py"]
    order += ["tests/load/test_load.py", "tests/unit/test_ids.py"]
    places = [place_of(f"{each}::test_any") for each in order]
    assert places == sorted(set(places))
