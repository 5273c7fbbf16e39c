"""Deleting sessions that have ended long ago, by an operator's hand.

A session has ended where its status is `terminated`: what is idle, busy or in error lives, however
long ago it was active. A session that is taken up again while this is at work stays: each is
deleted on condition that it is stored as it was read. As by any other deletion, what it contributed
is taken back, out of the counters and its agent's memory; that it was spawned stays counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from firestate.errors import DamagedDocumentError
from firestate.ingest.states import HEAD, decide_state
from firestate.pipeline.ingest_state import writes_of
from firestate.pipeline.retry import retry_on_conflict
from firestate.queries import ENDED_STATUSES, STALE
from firestate.schema.messages import Tombstone, TombstoneMessage
from firestate.stored_states import FIELDS, identity_in, read_state

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from firestate.schema.ids import Identity
    from firestate.stores.protocol import Store

_WRITER = "firestate-clean-up"
_ENDED = ("status", "last_active")
_NEEDED = {"writer", "digests", "counted_version", "counted_at"}


class EndedSession(NamedTuple):
    """A session that has ended, and when it was active last."""

    identity: Identity
    last_active: datetime


def ended_sessions(store: Store, before: datetime) -> Iterator[EndedSession]:
    """Yield the sessions that have ended and were last active before a time, the latest first."""
    query = STALE.query({"status": ENDED_STATUSES}, high=before, fields=[*FIELDS, *_ENDED])
    for stored in store.query(query):
        identity = identity_in(stored.data)
        if identity is not None and stored.data.keys() >= set(FIELDS):  # else no agent wrote it
            yield EndedSession(identity, stored.data["last_active"])


def delete_ended(store: Store, identity: Identity, before: datetime, now: datetime) -> bool:
    """Delete a session that has ended; return False where it lives, or is gone already.

    Raises DamagedDocumentError where it is not stored as Firestate stores it.
    """

    def attempt() -> bool:
        head = read_state(store, identity, [*HEAD, *_ENDED]).state
        if head is None or not _has_ended(head.data, before):
            return False
        if missing := _NEEDED - head.data.keys():
            raise DamagedDocumentError(f"{head.path} lacks {min(missing)}: no agent wrote it so")
        message = TombstoneMessage(
            # Above all that is stored: whoever still holds the session learns that it is gone.
            epoch=head.data["epoch"] + 1,
            revision=1,
            writer=_WRITER,
            deleted=Tombstone(**identity._asdict(), deleted_at=now),
        )
        decision = decide_state(head, message, now)
        if writes := writes_of(store, identity.state_path, decision):
            store.commit(writes)
        return True

    return retry_on_conflict(identity.state_path, attempt)


def _has_ended(data: Mapping[str, Any], before: datetime) -> bool:
    return data.get("status") in ENDED_STATUSES and data["last_active"] < before
