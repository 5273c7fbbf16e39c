"""A way that can be cut: a TCP proxy on this machine, before an emulator.

frozen        connections stay, and nothing goes through them any more; new ones are taken, and hang
refused       connections break, and new ones are refused
unreachable   nothing answers any more, not even to a new connection: as behind a pulled plug
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Coroutine

Cut = Literal["frozen", "refused", "unreachable"]

_CHUNK = 65_536
_FILLING = 4  # connections that fill a queue of length 0 for certain


class TcpProxy:
    """Passes on what comes for an address, until it is cut."""

    def __init__(self, to: str) -> None:
        host, _, port = to.rpartition(":")
        self._to = (host, int(port))
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._filling: list[socket.socket] = []
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._port = 0
        self._do(self._listen())
        self.address = f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self, how: Cut) -> None:
        """Cut the way."""
        if how == "refused":
            self._do(self._refuse())
        else:
            self._loop.call_soon_threadsafe(self._open.clear)
        if how == "unreachable":
            self._do(self._vanish())

    def mend(self) -> None:
        """Open it again; what was on its way goes on, where its connection is still there."""
        for each in self._filling:
            each.close()
        self._filling = []
        self._do(self._listen())
        self._loop.call_soon_threadsafe(self._open.set)

    def _do(self, work: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        if self._server is None or not self._server.is_serving():
            self._server = await asyncio.start_server(self._take, "127.0.0.1", self._port)
            self._port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _vanish(self) -> None:
        # A queue of connections that is full: the kernel drops whoever asks for one more.
        assert self._server is not None
        self._server.close()
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        deaf.bind(("127.0.0.1", self._port))
        deaf.listen(0)
        self._filling.append(deaf)
        for _ in range(_FILLING):
            one = socket.socket()
            one.setblocking(False)  # noqa: FBT003 - the library's own
            with contextlib.suppress(BlockingIOError):
                one.connect(("127.0.0.1", self._port))
            self._filling.append(one)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._open.wait()
        with contextlib.suppress(OSError):
            there, on = await asyncio.open_connection(*self._to)
            for task in (self._pass(reader, on), self._pass(there, writer)):
                running = asyncio.ensure_future(task)
                self._tasks.add(running)
                running.add_done_callback(self._tasks.discard)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while data := await reader.read(_CHUNK):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _end(self) -> None:
        await self._refuse()
        for each in self._filling:
            each.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
