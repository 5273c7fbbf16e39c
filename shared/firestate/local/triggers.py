"""Which write calls which function: what functions.yaml says for the cloud."""

from __future__ import annotations

from firestate.pipeline import derive_event, derive_state
from firestate.schema.ids import CONTROLS, EVENTS, SHARDS, STATES
from firestate.stores.sqlite_triggers import Rule

DERIVE_STATE, DERIVE_EVENT, ROLL_UP = "derive_state", "derive_event", "roll_up"
DERIVE = (DERIVE_STATE, DERIVE_EVENT)

RULES = (
    Rule(DERIVE_STATE, collection=STATES, fields=derive_state.FIELDS),
    Rule(DERIVE_EVENT, collection=EVENTS, fields=derive_event.FIELDS, created_only=True),
    Rule(ROLL_UP, collection=SHARDS),
    Rule(ROLL_UP, path=CONTROLS),
)
