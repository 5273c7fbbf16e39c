"""Writing the controls, on any store: on condition of what was read."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from firestate.errors import DamagedDocumentError, SchemaTooNewError
from firestate.operations.operator_controls import change_controls, with_emergency, with_flag
from firestate.schema.ids import CONTROLS
from firestate.stores.protocol import Create, Update

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firestate.stores.protocol import Store


def controls(store: Store) -> dict[str, Any]:
    stored = store.read(CONTROLS)
    assert stored is not None
    return stored.data


class ControlsContract:
    """Run on each store."""

    def test_controls_are_made_and_changed(self, store: Store) -> None:
        """Each change leaves what others have set, with the time and the version."""
        before = datetime.now(UTC)
        assert change_controls(store, with_flag("a.b", value=True))
        assert change_controls(store, with_emergency("fire [now]"))
        assert change_controls(store, with_flag("`c`", value=False))
        found = controls(store)
        assert before <= found.pop("last_updated") <= datetime.now(UTC)
        assert found == {
            "schema_version": 1,
            "feature_flags": {"a.b": True, "`c`": False},
            "emergency_stop": True,
            "emergency_reason": "fire [now]",
        }
        assert change_controls(store, with_flag("a.b", value=None))
        assert change_controls(store, with_emergency(None))
        found = controls(store)
        assert found["feature_flags"] == {"`c`": False}
        assert found["emergency_stop"] is False
        assert found["emergency_reason"] is None

    def test_what_is_so_already_is_not_written(self, store: Store) -> None:
        """Neither made nor changed: nothing is set off by it."""
        assert not change_controls(store, with_emergency(None))
        assert store.read(CONTROLS) is None
        assert change_controls(store, with_flag("a", value=True))
        stored = store.read(CONTROLS)
        assert not change_controls(store, with_flag("a", value=True))
        assert not change_controls(store, with_flag("b", value=None))
        assert store.read(CONTROLS) == stored

    def test_somebody_else_writes_in_between(self, store: Store) -> None:
        """It is read again, and nothing of either is lost; also where it was just made."""
        others = iter(["made", "changed"])

        def meddling(found: Mapping[str, Any]) -> dict[str, Any] | None:
            wanted = with_flag("mine", value=True)(found)
            if name := next(others, None):
                assert change_controls(store, with_flag(name, value=False))
            return wanted

        # Who is in between here is the same thread: it must not wait for its own turn.
        assert change_controls(store, meddling)
        assert controls(store)["feature_flags"] == {
            "made": False,
            "changed": False,
            "mine": True,
        }

    def test_many_at_once(self, store: Store) -> None:
        """All flags are there in the end."""
        names = [f"flag {number}" for number in range(8)]
        threads = [
            threading.Thread(target=change_controls, args=(store, with_flag(name, value=True)))
            for name in names
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert controls(store)["feature_flags"] == dict.fromkeys(names, True)

    def test_what_is_changed_must_be_in_order(self, store: Store) -> None:
        """A flag is not set beside one that the rules would refuse; that one can be put right."""
        damage = {"feature_flags": {"new": "on"}}
        store.commit([Create(CONTROLS, damage)])
        with pytest.raises(DamagedDocumentError, match=r"feature_flags\.new: must be"):
            change_controls(store, with_flag("other", value=True))
        assert controls(store) == damage
        assert change_controls(store, with_flag("new", value=None))
        assert change_controls(store, with_flag("other", value=True))
        assert controls(store)["feature_flags"] == {"other": True}

    @pytest.mark.parametrize(
        "damage",
        [
            {"note": "hello"},
            {"feature_flags": {"new": "on"}},
            {"feature_flags": [1]},
            {"emergency_stop": "yes", "emergency_reason": 7},
            {"global_config": "none"},
        ],
    )
    def test_nothing_that_is_wrong_prevents_an_emergency_stop(
        self, store: Store, damage: dict[str, Any]
    ) -> None:
        """It is set and lifted, and what others have got wrong stays for them to put right."""
        store.commit([Create(CONTROLS, damage)])
        assert change_controls(store, with_emergency("fire"))
        found = controls(store)
        assert (found["emergency_stop"], found["emergency_reason"]) == (True, "fire")
        assert change_controls(store, with_emergency(None))
        found = controls(store)
        assert (found["emergency_stop"], found["emergency_reason"]) == (False, None)
        beside = damage.keys() - {"emergency_stop", "emergency_reason"}
        assert {name: found[name] for name in beside} == {name: damage[name] for name in beside}

    @pytest.mark.parametrize("damage", [{"note": "hello"}, {"emergency_stop": "yes"}])
    def test_what_is_wrong_elsewhere_prevents_no_flag(
        self, store: Store, damage: dict[str, Any]
    ) -> None:
        """It stays as it is."""
        store.commit([Create(CONTROLS, damage)])
        assert change_controls(store, with_flag("new", value=True))
        found = controls(store)
        assert found["feature_flags"] == {"new": True}
        assert damage.items() <= found.items()

    def test_controls_of_a_later_release(self, store: Store) -> None:
        """They are left as they are."""
        assert change_controls(store, with_flag("a", value=True))
        stored = store.read(CONTROLS)
        assert stored is not None
        store.commit([Update(CONTROLS, stored.token, {"schema_version": 2})])
        with pytest.raises(SchemaTooNewError, match="system_state/controls: schema_version is 2"):
            change_controls(store, with_emergency("fire"))
