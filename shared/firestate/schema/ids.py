"""Document paths, and which strings can be ids: the one place that makes and reads ids.

Ids are joined plainly, as people expect to read them: `Father_agent_001_session_123`. An agent
type holds no underscore, so a memory id names one agent only. The plain join of a state could be
read in more than one way: agent `red_team` session `lead_7`, agent `red` session `team_lead_7`. So
a state's id is

    the plain join        where `_split` reads agent and session back out of it, and it does not end
                          in `~` and digits: Father_agent_001_session_123, QA_red_team_7
    plain join~length     else; the length is the number of characters of the agent id:
                          QA_red_team_lead_7~8, QA_red_team_lead_7~3

No two identities share an id: only marked ids end in `~` and digits, and both kinds can be read
back. Releases up to 0.1 stored every state under its plain join: `Identity.former_state_path`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from typing import NamedTuple, Self
from uuid import UUID

from firestate.errors import FieldProblem, InvalidMessageError
from firestate.limits import MAX_ID_BYTES

STATES = "agent_states"
EVENTS = "coordination"
MEMORIES = "agent_memory"
SESSIONS = "sessions"
SYSTEM = "system_state"
QUARANTINE = "quarantine"
PARTS = "parts"
LEGACY = "legacy"
LATE = "late"
EXPIRING = (STATES, EVENTS, LEGACY, LATE)
"""Their documents are removed some time after their `expire_at`."""

GLOBAL_CONFIG = f"{SYSTEM}/global_config"
CONTROLS = f"{SYSTEM}/controls"
SHARDS = f"{GLOBAL_CONFIG}/shards"

_RESERVED = re.compile(r"__.*__", re.DOTALL)
_NAMED_SESSION = re.compile(r"(.+)_(session_[^_]+)", re.DOTALL)
_MARK = re.compile(r"(.*)~([0-9]+)", re.DOTALL)
_KNOWN_IDS = 1_000  # an agent's process asks for the same few at every call
_MOST_DIGITS = 4  # of a length in characters; ids take 400 bytes


class Identity(NamedTuple):
    """Which agent, in which session."""

    agent_type: str
    agent_id: str
    session_id: str

    @classmethod
    def of(cls, agent_type: object, agent_id: object, session_id: object) -> Self:
        """Return the identity of what a caller names: texts, numbers or UUIDs.

        Raises InvalidMessageError that names each argument that cannot be an id.
        """
        given = (agent_type, agent_id, session_id)
        return cls(*checked_ids(dict(zip(cls._fields, given, strict=True))).values())

    @property
    def state_id(self) -> str:
        """The id of the state's document; see the head of this module."""
        return _state_id(self)

    @property
    def state_path(self) -> str:
        """`agent_states/{state_id}`."""
        return f"{STATES}/{self.state_id}"

    @property
    def former_state_path(self) -> str:
        """Where releases up to 0.1 stored the state: under the plain join."""
        return f"{STATES}/{'_'.join(self)}"

    @property
    def state_paths(self) -> tuple[str, ...]:
        """Every path at which the state can be stored, today's first; nearly always one."""
        return tuple(dict.fromkeys((self.state_path, self.former_state_path)))

    @property
    def memory_path(self) -> str:
        """`agent_memory/{agent_type}_{agent_id}`."""
        return memory_path(self.agent_type, self.agent_id)

    @property
    def row_path(self) -> str:
        """`agent_memory/{agent_type}_{agent_id}/sessions/{session_id}`: the ledger row."""
        return f"{self.memory_path}/{SESSIONS}/{self.session_id}"


@lru_cache(_KNOWN_IDS)
def _state_id(identity: Identity) -> str:
    plain = "_".join(identity)
    # A type holds no underscore, so all that follows the first one is agent and session.
    read_back = _split(plain.partition("_")[2])
    if read_back == identity[1:] and not _MARK.fullmatch(plain):
        return plain
    return f"{plain}~{len(identity.agent_id)}"


def read_state_id(state_id: str) -> Identity | None:
    """Return the identity that a state's id names, or None for a text that is no such id.

    >>> read_state_id("QA_red_team_lead_7~8")
    Identity(agent_type='QA', agent_id='red_team', session_id='lead_7')
    """
    agent_type, _, rest = state_id.partition("_")
    if mark := _MARK.fullmatch(rest):
        if len(mark[2]) > _MOST_DIGITS:
            return None
        length = int(mark[2])
        parts = (mark[1][:length], mark[1][length + 1 :])
    else:
        parts = _split(rest)
    identity = Identity(agent_type, *parts)
    # Made anew, it shows a mark that is wrong or not needed, and parts that are empty.
    return identity if all(identity) and identity.state_id == state_id else None


def identities_joined_as(former_path: str) -> list[Identity]:
    """Return every identity whose former path this is: one for each place to cut."""
    agent_type, _, rest = former_path.partition("/")[2].partition("_")
    cuts = [place for place, character in enumerate(rest) if character == "_"]
    found = [Identity(agent_type, rest[:cut], rest[cut + 1 :]) for cut in cuts]
    return [each for each in found if all(each)]


def _split(rest: str) -> tuple[str, str]:
    """Cut agent and session apart, as a reader of a plain id would."""
    if named := _NAMED_SESSION.fullmatch(rest):
        return named[1], named[2]
    agent_id, _, session_id = rest.rpartition("_")
    return agent_id, session_id


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


def checked_ids(given: dict[str, object]) -> dict[str, str]:
    """Return ids as texts, by the names that the caller knows them by.

    Frameworks have ids that are numbers or UUIDs. Raises InvalidMessageError with a problem for
    each that is something else, or a text that cannot be an id.
    """
    ids = {name: _id_text(value) for name, value in given.items()}
    problems = []
    for name, text in ids.items():
        if text is None:
            reason = f"must be a text, a number or a UUID, not {type(given[name]).__name__}"
        else:
            check = agent_type_problem if name.endswith("agent_type") else id_problem
            reason = check(text) or ""
        if reason:
            problems.append(FieldProblem(name, reason))
    if problems:
        raise InvalidMessageError("schema", problems)
    return {name: text for name, text in ids.items() if text is not None}


def _id_text(value: object) -> str | None:
    if isinstance(value, Enum):
        value = value.value  # and not the name of the member
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int | float | UUID) and not isinstance(value, bool):
        try:
            return str(value)
        except ValueError:  # an integer of more digits than Python turns into text
            return None
    return None


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
