"""Teams of MetaGPT, as `team.serialize()` writes them into team.json: an environment with roles.

Each role is an agent. The finished tasks of its plan are its history; what it remembers of messages
is kept beside, as are the team's own words with the first. A team without roles is one agent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firestate.migration.formats.records import (
    Draft,
    Facts,
    Record,
    RecordKind,
    Refusal,
    session_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "metagpt"

_CONFIGURATION = ("profile", "goal", "constraints", "desc", "is_human")


def recognises(value: Any, name: str) -> bool:  # noqa: ANN401, ARG001 - any JSON, by content alone
    """An `env` with `roles`, and what was invested or asked for."""
    if not isinstance(value, dict) or not isinstance(value.get("env"), dict):
        return False
    return isinstance(value["env"].get("roles"), dict) and (
        "idea" in value or "investment" in value
    )


def read(value: Any, facts: Facts) -> Iterator[Record | Refusal]:  # noqa: ANN401 - any JSON
    """Give a state for each role."""
    session_id = session_of(NAME, value)
    roles = value["env"]["roles"]
    env = {name: each for name, each in value["env"].items() if name != "roles"}
    beside = {f"team.{name}": each for name, each in value.items() if name != "env"}
    beside |= {f"env.{name}": each for name, each in env.items()}
    idea = value.get("idea")
    task = idea if isinstance(idea, str) and idea else None
    if not roles:
        draft = Draft("env", beside)
        draft.guess("agent_id", "team")
        draft.guess("agent_type", "Team")
        yield _finished(draft, session_id, task, value, facts)
        return
    for key, role in roles.items():
        if not isinstance(role, dict):
            yield Refusal(f"env.roles.{key}", "is no object, and so no role", "leave it out")
            continue
        draft = Draft.of(f"env.roles.{key}", role)
        draft.left |= beside
        beside = {}
        draft.fields["agent_id"] = _name(role, key, roles)
        if draft.fields["agent_id"] == role.get("name"):
            draft.left.pop("name")
        draft.left["role.key" if "key" in role else "key"] = key
        profile = role.get("profile")
        draft.fields["agent_type"] = profile if isinstance(profile, str) and profile else key
        draft.fields["agent_config"] = {
            name: draft.left.pop(name)
            for name in _CONFIGURATION
            if draft.left.get(name) not in (None, "")
        }
        if history := _history(role):
            draft.fields["task_history"] = history
        old = {"session": session_id, "key": key, "role": role}
        yield _finished(draft, session_id, task, old, facts)


def _finished(draft: Draft, session_id: str, task: str | None, old: object, facts: Facts) -> Record:
    draft.guess("session_id", session_id)
    draft.guess("status", "idle")
    if task is not None:
        draft.fields["current_task"] = task
    draft.date((), facts)
    return draft.record(RecordKind.STATE, old)


def _name(role: dict[str, Any], key: str, roles: dict[str, Any]) -> str:
    """Give the role's name, unless another role has it too."""
    name = role.get("name")
    names = [each.get("name") for each in roles.values() if isinstance(each, dict)]
    return name if isinstance(name, str) and name and names.count(name) == 1 else key


def _history(role: dict[str, Any]) -> list[dict[str, Any]]:
    planner = role.get("planner")
    plan = planner.get("plan") if isinstance(planner, dict) else None
    tasks = plan.get("tasks") if isinstance(plan, dict) else None
    return [
        {
            "task_id": str(each.get("task_id", number)),
            "kind": str(each.get("task_type") or "task"),
            "status": "completed" if each.get("is_success") else "failed",
            "instruction": str(each.get("instruction", "")),
        }
        for number, each in enumerate(tasks if isinstance(tasks, list) else ())
        if isinstance(each, dict) and each.get("is_finished")
    ]
