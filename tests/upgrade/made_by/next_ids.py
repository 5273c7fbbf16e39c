"""The document id that the next release gives to an identity, in words of its own."""

from __future__ import annotations

import re

_MARK = re.compile(r"~[0-9]+\Z")


def next_id(agent_type: str, agent_id: str, session_id: str) -> str:
    """Return the plain join where it can be read back, else the same with the agent id's length."""
    rest = f"{agent_id}_{session_id}"
    plain = f"{agent_type}_{rest}"
    if _split(rest) == (agent_id, session_id) and not _MARK.search(plain):
        return plain
    return f"{plain}~{len(agent_id)}"


def _split(rest: str) -> tuple[str, str]:
    before, word, after = rest.rpartition("_session_")
    if before and word and after and "_" not in after:
        return before, f"session_{after}"
    before, _, after = rest.rpartition("_")
    return before, after
