"""Asking a store that fails, refuses or hangs: what is known is told in time, and marked."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from firestate.agents.reading.answers import Answer, Lookup, ReadRequest, read_request
from firestate.agents.reading.background_reads import BackgroundReads
from firestate.agents.reading.read_your_writes import state_document
from firestate.agents.reading.store_reader import StoreReader
from firestate.errors import RefusedError, UnavailableError
from firestate.outbox.entries import NewEntry
from firestate.outbox.file import Outbox
from firestate.queries import CURRENT_STATUSES, LOOK_UP_AGENTS
from firestate.schema.ids import Identity
from firestate.stores.protocol import Create
from tests.agents.environments import eventually
from tests.agents.fake_backend import FakeBackend
from tests.agents.outbox_fixtures import PLENTY
from tests.harness import state_message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from firestate.agents.reading.answers import Find

PATIENCE, LONG = 0.2, 30.0
"""With a store that hangs, and with one that answers: on a busy machine that takes a while."""
BUSY = 10.0
"""What such a machine may add; a read that nobody gives up takes 30 s."""
STATE = Identity("Developer", "a_1", "s1")
ALL = Lookup(LOOK_UP_AGENTS, {"status": CURRENT_STATUSES}, limit=9)

Told = Answer[list[tuple[str, str]]]


class Far:
    """A reader, and the store that it asks."""

    def __init__(self) -> None:
        self.engine = FakeBackend()
        self.outbox = Outbox(None, most_bytes=PLENTY)
        self.reader = StoreReader(self.engine, self.outbox, patience_seconds=LONG)

    def store(self, session: str, **changes: Any) -> None:
        message = state_message(1, session_id=session, **changes)
        path = f"agent_states/Developer_a_1_{session}"
        document = state_document(json.dumps(message).encode())
        self.engine.stored.commit([Create(path, document)])

    def write(self, session: str, **changes: Any) -> None:
        """Put into the outbox what is above all that is stored."""
        data = json.dumps(state_message(1, 2, session_id=session, **changes)).encode()
        path = f"agent_states/Developer_a_1_{session}"
        self.outbox.put(NewEntry(document=path, agent="a", topic="t", data=data, order=(2, 1)))

    def hang(self, patience_seconds: float = PATIENCE) -> None:
        self.reader._patience_seconds = patience_seconds
        self.engine.goes_on.clear()


@pytest.fixture
def far() -> Iterator[Far]:
    made = Far()
    made.store("s1")
    yield made
    made.engine.goes_on.set()
    made.reader.close()
    made.outbox.close()
    made.engine.close()


@pytest.fixture(params=["plain", "aio"])
def ask(far: Far, request: pytest.FixtureRequest) -> Callable[[Find], Told]:
    """Ask in one of both ways; no answer takes longer than the patience."""

    def asking(find: Find) -> Told:
        asked: ReadRequest[Told] = read_request(
            find, lambda found: [(each["session_id"], each["status"]) for each in found]
        )
        began = time.monotonic()
        if request.param == "plain":
            answer = far.reader.ask(asked)
        else:
            answer = asyncio.run(far.reader.ask_aio(asked))
        assert time.monotonic() - began < PATIENCE + BUSY
        return answer

    return asking


def is_known(answer: Told, *expected: tuple[str, str]) -> bool:
    return not answer.fresh and answer.value == list(expected)


def test_what_is_stored_is_told_with_own_writes_over_it(
    far: Far, ask: Callable[[Find], Told]
) -> None:
    far.write("s2", status="busy")
    assert sorted(ask(ALL).value) == [("s1", "idle"), ("s2", "busy")]
    far.write("s1", status="error")
    answer = ask(STATE)
    assert (answer.fresh, answer.value) == (True, [("s1", "error")])
    assert ask(Identity("Developer", "a_1", "none")).value == []


@pytest.mark.parametrize("find", [STATE, ALL])
def test_through_an_outage_what_is_known_is_told_and_marked(
    far: Far, ask: Callable[[Find], Told], find: Find
) -> None:
    assert ask(find).fresh
    far.engine.fault = UnavailableError("no network")
    assert is_known(ask(find), ("s1", "idle"))
    assert far.engine.reading.is_lost
    reads = far.engine.reads
    far.write("s1", status="busy")
    assert is_known(ask(find), ("s1", "busy"))
    assert far.engine.reads == reads, "while it is known to be away it is not asked"
    far.engine.fault = None
    far.engine.reading.back()
    assert ask(find).fresh


def test_of_what_was_never_read_only_own_writes_are_known(
    far: Far, ask: Callable[[Find], Told]
) -> None:
    far.engine.fault = UnavailableError("no network")
    assert is_known(ask(STATE))
    far.write("s2")
    assert is_known(ask(ALL), ("s2", "idle"))


def test_a_store_that_hangs_is_waited_for_once_and_not_longer_than_the_patience(
    far: Far, ask: Callable[[Find], Told]
) -> None:
    ask(STATE)
    far.hang()
    assert is_known(ask(STATE), ("s1", "idle"))
    assert far.engine.reading.is_lost
    assert far.engine.reading.state.reason == "a read took too long"
    began = time.monotonic()
    for _ in range(20):
        assert is_known(ask(ALL), ("s1", "idle"))
    assert time.monotonic() - began < 20 * PATIENCE / 2


def test_a_store_that_refuses_is_no_outage(
    far: Far, ask: Callable[[Find], Told], caplog: pytest.LogCaptureFixture
) -> None:
    far.engine.fault = RefusedError("no index")
    assert is_known(ask(ALL))
    assert not far.engine.reading.is_lost
    assert "the store refuses a read: no index" in caplog.text
    far.engine.fault = None
    assert ask(ALL).fresh


def test_an_error_that_nobody_thought_of_is_logged_and_no_agent_fails_by_it(
    far: Far, ask: Callable[[Find], Told], caplog: pytest.LogCaptureFixture
) -> None:
    ask(STATE)
    far.engine.fault = ValueError("the channel is closed")
    assert is_known(ask(STATE), ("s1", "idle"))
    assert "the channel is closed" in caplog.text
    far.engine.fault = None
    assert ask(STATE).fresh


def test_who_reads_while_the_reader_is_closed_is_told_what_is_known(far: Far) -> None:
    far.hang()
    answers: list[bool] = []
    find = ReadRequest(STATE, lambda _, fresh: answers.append(fresh))
    threads = [threading.Thread(target=far.reader.ask, args=(find,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    eventually(lambda: far.engine.reads == 4 and _waiting_in(far.reader) == 2)
    far.reader.close()
    for thread in threads:
        thread.join()
    assert answers == [False] * 6


def _waiting_in(reader: StoreReader) -> int:
    return reader._worker._jobs.qsize()


def test_asyncio_code_goes_on_while_a_read_hangs(far: Far) -> None:
    far.hang(LONG)

    async def work() -> int:
        answer = asyncio.ensure_future(
            far.reader.ask_aio(ReadRequest(STATE, lambda _, fresh: fresh))
        )
        ticks = 0
        while not answer.done():
            await asyncio.sleep(0.01)
            ticks += 1
            if ticks == 4:
                far.engine.reading.lost("away")
        assert await answer is False
        return ticks

    assert asyncio.run(work()) > 3


def test_many_that_ask_a_store_that_hangs_all_have_their_answer_in_time(far: Far) -> None:
    far.hang()
    answers: list[bool] = []
    ask = ReadRequest(STATE, lambda _, fresh: answers.append(fresh))
    threads = [threading.Thread(target=far.reader.ask, args=(ask,)) for _ in range(12)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began < PATIENCE + BUSY
    assert answers == [False] * 12


def test_only_so_much_is_remembered(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firestate.agents.reading.store_reader._MOST_KNOWN", 2)
    for session in ("s2", "s3"):
        far.store(session)
        far.reader.ask(ReadRequest(f"agent_states/Developer_a_1_{session}", lambda *_: None))
    far.reader.ask(ReadRequest(STATE, lambda *_: None))
    far.engine.reading.lost("away")
    known = far.reader.ask(
        ReadRequest(ALL, lambda found, _: {each["session_id"] for each in found})
    )
    assert known == {"s1", "s3"}


def test_background_reads_are_done_after_an_outage_and_none_spoils_another(
    far: Far, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Any] = []
    background_reads = BackgroundReads(far.engine, far.reader)

    def spoil(found: list[dict[str, Any]]) -> None:
        done.append(("spoilt", bool(found)))
        raise ValueError("of the user")

    far.engine.reading.lost("away")
    background_reads.add(
        STATE, lambda found: done.append(("one", found and found[0]["session_id"]))
    )
    background_reads.add("agent_states/none", spoil)
    background_reads.add(
        ALL, lambda found: done.append(("three", found and found[0]["session_id"]))
    )
    time.sleep(0.3)
    assert done == []
    far.engine.fault = UnavailableError("still away")
    far.engine.reading.back()
    eventually(lambda: far.engine.reading.is_lost)
    assert done == []
    answers = iter([OSError("nobody thought of it")])
    asking = far.reader.ask

    def ask(asked: ReadRequest[Any]) -> Any:
        for error in answers:
            raise error
        return asking(asked)

    monkeypatch.setattr(far.reader, "ask", ask)
    far.engine.fault = None
    far.engine.reading.back()
    eventually(lambda: len(done) == 3)
    # The first one failed by what nobody thought of: it comes again after the others.
    assert done == [("spoilt", False), ("three", "s1"), ("one", "s1")]
    assert "of the user" in caplog.text
    background_reads.close()
    background_reads.add(STATE, done.append)
    time.sleep(0.05)
    assert len(done) == 3
