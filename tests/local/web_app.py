"""A web application as users write it: each request works in a session of its agent."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from firestate import StateManager

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

manager = StateManager("", folder=os.environ["WEB_APP_FOLDER"])


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer `/{session}/{task}` once the task is done, with the worker's process id."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await asyncio.to_thread(manager.close)
        await send({"type": "lifespan.shutdown.complete"})
        return
    _, session, task = scope["path"].split("/")
    agent = await manager.agent.aio("Web", "server", session)
    with agent.task(task, "request"):
        await asyncio.sleep(0.002)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
