"""Saves teams of MetaGPT as its `Team.serialize` writes them, into a `team.json`.

It made these samples in `tests/migration/samples/metagpt`: software_team.json, interrupted.json,
with_plan.json, no_roles.json and history_as_memory.json.
They were made by metagpt 0.8.2, but the last: this script makes it out of with_plan.json, after
MetaGPT's newest source, in which the history is no text and roles go by their names.
No model is called: the actions are written here, and say what is written here. MetaGPT asks for
many packages that have nothing to do with this. Those that are not wanted are replaced by empty
ones.

To run it again, in an environment of its own, with Python 3.11:

    pip install --no-deps metagpt==0.8.2
    pip install "pydantic<2.9" loguru==0.6.0 tenacity==8.2.3 "openai~=1.39.0" httpx==0.27.2 \
        aiofiles aiohttp anthropic anytree beautifulsoup4 chardet fire gitignore-parser gitpython \
        gymnasium==0.29.1 imap-tools libcst nbformat networkx "numpy<2" pandas pillow \
        python-docx pyyaml rich scikit-learn tiktoken==0.7.0 typer
    python tests/migration/made_by/metagpt_teams.py FOLDER
"""

# The framework is not there when types are checked.
# mypy: disable-error-code="import-not-found", disallow-subclassing-any=False

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel

MODELS = ("anthropic", "ark", "bedrock", "dashscope", "google_gemini", "ollama", "qianfan")
UNWANTED = [f"metagpt.provider.{name}_api" for name in (*MODELS, "spark", "zhipuai")]
UNWANTED += ["nbclient", "nbclient.exceptions", "nbclient.util", "playwright"]
UNWANTED += ["playwright.async_api", "tree_sitter", "tree_sitter_python"]


class Empty(ModuleType):
    """A module in which every name is a class that does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda *_, **__: None})


ROOT = Path(tempfile.mkdtemp())  # where MetaGPT looks for its settings and writes its log
(ROOT / "config").mkdir()
(ROOT / "config" / "config2.yaml").write_text("llm: {api_type: openai, api_key: none}\n")
os.environ["METAGPT_PROJECT_ROOT"] = str(ROOT)
sys.modules |= {name: Empty(name) for name in UNWANTED}

from metagpt.actions import Action, UserRequirement  # noqa: E402 - after the settings
from metagpt.context import Context  # noqa: E402 - after the settings
from metagpt.roles import Role  # noqa: E402 - after the settings
from metagpt.schema import Message, Plan, Task  # noqa: E402 - after the settings
from metagpt.team import Team  # noqa: E402 - after the settings


class Design(BaseModel):
    """What a plan is made of."""

    files: list[str]
    steps: list[list[str]]


class WritePlan(Action):
    name: str = "WritePlan"

    async def run(self, *_: Any) -> Message:
        steps = [["code", "leap.py"], ["test", "test_leap.py"]]
        design = Design(files=["leap.py", "test_leap.py"], steps=steps)
        return Message(content="First leap.py, then its tests. ✔", instruct_content=design)


class WriteCode(Action):
    name: str = "WriteCode"

    async def run(self, *_: Any) -> str:
        return "def leap(year):\n    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)"


class RunTests(Action):
    name: str = "RunTests"
    broken: bool = False

    async def run(self, *_: Any) -> str:
        if self.broken:
            raise TimeoutError("the tests take too long")
        return "4 passed"


class Planner(Role):
    name: str = "Eve"
    profile: str = "Planner"
    goal: str = "a plan that can be built"

    async def _act(self) -> Message:
        said = await self.rc.todo.run(self.rc.history)
        said.role, said.cause_by, said.sent_from = self.profile, type(self.rc.todo), self
        self.rc.memory.add(said)
        return said


class Coder(Role):
    name: str = "Alex"
    profile: str = "Coder"
    constraints: str = "keep it small"


class Tester(Role):
    name: str = "Kim"
    profile: str = "Tester"


def people(*, broken: bool = False) -> list[Role]:
    roles: list[Any] = [Planner(), Coder(), Tester()]
    actions = [WritePlan(), WriteCode(), RunTests(broken=broken)]
    for role, action, awaited in zip(roles, actions, (UserRequirement, *actions), strict=False):
        role.set_actions([action])
        role._watch([awaited])
    return roles


def planned() -> Role:
    role: Any = people()[0]
    tasks = [
        Task(
            task_id="1", instruction="Write leap.py.", code="def leap(year): ...", is_success=True
        ),
        Task(task_id="2", dependent_task_ids=["1"], instruction="Test it.", is_finished=False),
    ]
    plan = Plan(goal="A function that tells leap years.")
    plan.add_tasks(tasks)
    plan.finish_current_task()
    role.planner.plan = plan
    return role


def as_unreleased(text: str) -> str:
    """Turn a team into what MetaGPT's newest source writes, which is in no release."""
    team = json.loads(text)
    roles = team["env"]["roles"].values()
    storage = max((role["rc"]["memory"]["storage"] for role in roles), key=len)
    history = {"storage": storage, "index": {}, "ignore_id": False}
    team["env"] |= {"roles": {role["name"]: role for role in roles}, "history": history}
    return json.dumps(team, ensure_ascii=False, indent=4)


def main(folder: Path) -> None:
    """Run each team, and write it down."""
    teams = {
        "software_team": people(),
        "interrupted": people(broken=True),
        "with_plan": [planned()],
        "no_roles": [],
    }
    for name, roles in teams.items():
        context = Context()
        context.kwargs.set("board", {"columns": [["leap.py", "doing"], []]})
        team = Team(context=context)
        team.hire(roles)
        team.invest(3.0)
        idea = "Write a function that tells leap years."
        with contextlib.suppress(Exception):  # of the tester that is broken
            asyncio.run(team.run(n_round=5, idea=idea, auto_archive=False))
        place = ROOT / name
        team.serialize(place)
        shutil.copyfile(place / "team.json", folder / f"{name}.json")
    text = as_unreleased((folder / "with_plan.json").read_text(encoding="utf-8"))
    (folder / "history_as_memory.json").write_text(text, encoding="utf-8")
    shutil.rmtree(ROOT)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
