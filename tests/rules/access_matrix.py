"""Who may do what, as a table: get, list, create, update, delete."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.rules.client import RulesClient

RULES = Path(__file__).parents[2] / "firestore.rules"
CONTROLS = "system_state/controls"

# What the custom claim `role` holds; None: nobody is signed in.
ROLES: dict[str, dict[str, Any] | None] = {
    "nobody": None,
    "signed-in": {},
    "admin": {"role": "admin"},
    "[operator]": {"role": ["operator"]},
    "null": {"role": None},
    "viewer": {"role": "viewer"},
    "operator": {"role": "operator"},
}

TABLE = """
document                             nobody signed-in admin [operator] null viewer operator
agent_states/x                       -      -         -     -          -    gl     gl
agent_states/x/below/y               -      -         -     -          -    -      -
agent_states/x/late/1                -      -         -     -          -    gl     gl
agent_states/x/legacy/0000           -      -         -     -          -    gl     gl
coordination/x                       -      -         -     -          -    gl     gl
coordination/x/legacy/0000           -      -         -     -          -    gl     gl
agent_memory/x                       -      -         -     -          -    gl     gl
agent_memory/x/sessions/s            -      -         -     -          -    gl     gl
system_state/global_config           -      -         -     -          -    gl     gl
system_state/global_config/shards/0  -      -         -     -          -    gl     gl
system_state/repairs                 -      -         -     -          -    gl     gl
system_state/controls                -      -         -     -          -    gl     glcu
quarantine/x                         -      -         -     -          -    gl     gl
quarantine/x/parts/0000              -      -         -     -          -    -      gl
elsewhere/x                          -      -         -     -          -    -      -
"""


def expected() -> dict[tuple[str, str], str]:
    """Read the table: what each role may do with each document."""
    head, *lines = TABLE.strip().splitlines()
    roles = head.split()[1:]
    return {
        (line.split()[0], role): cell
        for line in lines
        for role, cell in zip(roles, line.split()[1:], strict=True)
    }


def measured(emulator: RulesClient, path: str, role: str) -> str:
    """Try all five on one document; give the letters of those that were allowed, or `-`."""
    owner, person = emulator.owner, emulator.somebody(ROLES[role])
    fields: dict[str, Any] = {"emergency_stop": True} if path == CONTROLS else {"n": 1}
    owner.delete(path)
    done = "c" if person.create(path, fields) else ""
    owner.delete(path)
    owner.create(path, fields)
    done = ("g" if person.get(path) else "") + ("l" if person.find(path) else "") + done
    done += "u" if person.update(path, fields) else ""
    done += "d" if person.delete(path) else ""
    return done or "-"
