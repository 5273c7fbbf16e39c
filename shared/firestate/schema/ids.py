"""Document paths, and which strings can be ids.

Ids are joined plainly, as people expect to read them: `Father_agent_001_session_123`. Since an
agent type holds no underscore, a memory id names one agent only. A state id can be read in more
than one way (agent `a_b` session `c`, agent `a` session `b_c`); the parts are stored as fields,
and ingest refuses a write to a document of another identity.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

from firestate.limits import MAX_ID_BYTES

STATES = "agent_states"
EVENTS = "coordination"
MEMORIES = "agent_memory"
SESSIONS = "sessions"
SYSTEM = "system_state"
QUARANTINE = "quarantine"
PARTS = "parts"
LEGACY = "legacy"

GLOBAL_CONFIG = f"{SYSTEM}/global_config"
CONTROLS = f"{SYSTEM}/controls"
SHARDS = f"{GLOBAL_CONFIG}/shards"

_RESERVED = re.compile(r"__.*__", re.DOTALL)


class Identity(NamedTuple):
    """Which agent, in which session."""

    agent_type: str
    agent_id: str
    session_id: str

    @property
    def state_path(self) -> str:
        """`agent_states/{agent_type}_{agent_id}_{session_id}`."""
        return f"{STATES}/{self.agent_type}_{self.agent_id}_{self.session_id}"

    @property
    def memory_path(self) -> str:
        """`agent_memory/{agent_type}_{agent_id}`."""
        return memory_path(self.agent_type, self.agent_id)

    @property
    def row_path(self) -> str:
        """`agent_memory/{agent_type}_{agent_id}/sessions/{session_id}`: the ledger row."""
        return f"{self.memory_path}/{SESSIONS}/{self.session_id}"


def memory_path(agent_type: str, agent_id: str) -> str:
    """`agent_memory/{agent_type}_{agent_id}`."""
    return f"{MEMORIES}/{agent_type}_{agent_id}"


def event_path(timestamp: datetime, event_id: str) -> str:
    """`coordination/{event_timestamp}_{event_id}`, the time in UTC with microseconds and a Z."""
    utc = timestamp.astimezone(UTC).replace(tzinfo=None)
    return f"{EVENTS}/{utc.isoformat(timespec='microseconds')}Z_{event_id}"


def shard_path(number: int) -> str:
    """`system_state/global_config/shards/{n}`."""
    return f"{SHARDS}/{number}"


def quarantine_path(quarantine_id: str) -> str:
    """`quarantine/{id}`."""
    return f"{QUARANTINE}/{quarantine_id}"


def part_path(quarantine_id: str, number: int) -> str:
    """`quarantine/{id}/parts/{n}`, numbered so that they sort."""
    return f"{QUARANTINE}/{quarantine_id}/{PARTS}/{number:04d}"


def id_problem(text: str) -> str | None:
    """Why `text` cannot be (a part of) a Firestore document id, or None if it can."""
    if not text:
        return "must not be empty"
    if "/" in text:
        return "must not hold '/', which would address another path"
    if text in {".", ".."}:
        return f"must not be {text!r}, which Firestore reserves"
    if _RESERVED.fullmatch(text):
        return "must not be of the form __x__, which Firestore reserves"
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which is no valid Unicode"
    if size > MAX_ID_BYTES:
        return f"takes {size} bytes of UTF-8, at most {MAX_ID_BYTES} are allowed"
    return None


def agent_type_problem(text: str) -> str | None:
    """Why `text` cannot be an agent type: an id without underscores."""
    if "_" in text:
        return "must not hold '_' (write '-'), so that the ids of documents stay unambiguous"
    return id_problem(text)
