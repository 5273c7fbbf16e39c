"""A process frozen in the middle of one delivery, and let go when another has taken it."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.load.deliveries import Address, Delivery, Listener

if TYPE_CHECKING:
    from tests.load.runner import Runner

_PATIENCE_SECONDS = 60.0
_ENDS_WITHIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class FrozenDelivery:
    """What came of one freeze: how long it was, and the line that the frozen process then wrote.

    `line` is empty where the process had ended its work before it was stopped.
    """

    seconds: float
    line: dict[str, Any]

    @property
    def in_the_middle(self) -> bool:
        """Whether the handler had begun before, so that the freeze is part of its time."""
        return float(self.line.get("latency_ms", 0)) >= self.seconds * 1000


class FreezingListener(Listener):
    """Freezes the instance that gets the next delivery of `function`, `delay` seconds into it.

    The instance then gets no other deliveries. It is thawed once another one has taken the same
    delivery.
    """

    def __init__(self, running: Runner, function: str, delay: float) -> None:
        self._running = running
        self._function = function
        self._delay = delay
        self._lock = threading.Lock()
        self._chosen: tuple[str, Address] | None = None
        self._taken = threading.Event()
        self._taken_by_first = False
        self._answers: list[str] = []
        self._thread = threading.Thread(target=self._freeze)
        self.begun = threading.Event()
        self.frozen: FrozenDelivery | None = None

    def handed_over(self, delivery: Delivery, address: Address) -> None:
        with self._lock:
            if self._chosen or delivery.function != self._function:
                return
            self._chosen = (delivery.message_id, address)
        self._thread.start()
        self.begun.set()

    def answered(self, delivery: Delivery, address: Address, status: int) -> None:
        if self._chosen and delivery.message_id == self._chosen[0]:
            first = self._chosen[1]
            self._answers.append(f"{status} of {address.function} {address.number}")
            if status in range(200, 300):
                # A busy machine stops a process late. It may end its work and answer meanwhile,
                # and then nobody else is asked.
                self._taken_by_first |= address is first
                self._taken.set()

    def result(self) -> FrozenDelivery:
        """Wait until it is over and give what came of it."""
        self._thread.join()
        assert self.frozen is not None, f"nobody else took the delivery: {self._answers}"
        return self.frozen

    def _freeze(self) -> None:
        assert self._chosen is not None
        message_id, address = self._chosen
        instance = self._running.instance(address)
        # The router is not quiet before what was frozen has had a second to end its work.
        with self._running.router.working():
            time.sleep(self._delay)
            instance.freeze()
            began, written = time.monotonic(), instance.log.stat().st_size
            address.open = False
            done = bool(self._line(instance.log.read_bytes()[:written], message_id))
            taken = done or self._taken.wait(_PATIENCE_SECONDS)
            done |= self._taken_by_first
            seconds = time.monotonic() - began
            instance.thaw()
            address.open = True
            if not taken:
                return
            line: dict[str, Any] = {}
            end = time.monotonic() + (0 if done else _ENDS_WITHIN_SECONDS)
            while not line and time.monotonic() < end:
                time.sleep(0.01)
                line = self._line(instance.log.read_bytes()[written:], message_id)
            self.frozen = FrozenDelivery(seconds, line)

    @staticmethod
    def _line(log: bytes, message_id: str) -> dict[str, Any]:
        for text in log.splitlines():
            if text.startswith(b"{") and text.endswith(b"}"):
                line: dict[str, Any] = json.loads(text)
                if line.get("message_id") == message_id:
                    return line
        return {}
