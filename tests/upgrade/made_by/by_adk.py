"""Sessions of Google's ADK, recorded by its adapter; no model is called."""

# The framework is not there when types are checked.
# mypy: disable-error-code="import-not-found", disallow-subclassing-any=False

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from google.adk.agents import BaseAgent
from google.adk.apps import App
from google.adk.events import Event
from google.adk.runners import Runner
from google.adk.sessions import InMemorySessionService
from google.genai import types

from firestate import StateManager
from firestate.adapters.adk import FirestatePlugin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from google.adk.agents.invocation_context import InvocationContext

APP = "shop"
SESSIONS = (
    # Two users with a session of one name: the failure of bob's is shown for alice's as well.
    ("alice", "main"),
    ("bob", "main"),
    ("alice", "s-77"),
    ("alice", "order_12"),
)


class Echo(BaseAgent):
    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncIterator[Event]:
        if ctx.session.user_id == "bob":
            raise ValueError("bob's")
        content = types.Content(role="model", parts=[types.Part(text="ok")])
        yield Event(author=self.name, invocation_id=ctx.invocation_id, content=content)


def run_adk(folder: Path) -> None:
    """Run each session once."""
    with StateManager(project="", folder=folder) as manager:
        asyncio.run(_run(manager))
        assert manager.settle(60)


async def _run(manager: StateManager) -> None:
    service = InMemorySessionService()
    app = App(name=APP, root_agent=Echo(name="helper"), plugins=[FirestatePlugin(manager)])
    runner = Runner(app=app, session_service=service)
    message = types.Content(role="user", parts=[types.Part(text="hi")])
    for user, session in SESSIONS:
        await service.create_session(app_name=APP, user_id=user, session_id=session)
        with suppress(ValueError):
            async for _ in runner.run_async(user_id=user, session_id=session, new_message=message):
                pass
