"""Everything that Firestate raises, as one tree.

    FirestateError
    ├── InvalidMessageError    can never succeed: refused by `save`, or kept in quarantine
    ├── SchemaTooNewError      written by a newer release than this one: upgrade, then try again
    ├── ContentionError        gave up after many conflicts: a passing fault, Pub/Sub tries again
    ├── UnexpectedError        nobody thought of it: the log says its type and where it was raised
    ├── ConfigurationError     a setting is missing or wrong: the message says which
    ├── FencedError            another process has taken up this session: stop, or resume it
    ├── EmergencyStopError     an operator has stopped all agents
    ├── UnknownSessionError    there is no such session, or it was deleted
    ├── OutboxError            the outbox cannot be used: nothing was kept
    │   └── OutboxFullError        its bound is reached, or the disk is full
    ├── AccountError           Firebase Authentication did not do what was asked
    │   └── UnknownAccountError    there is no such account
    └── StoreError             the store did not do what was asked
        ├── ConflictError      a precondition did not hold: read again, decide again
        │   └── ExistsError    the document that was to be created is there already
        ├── UnavailableError   a passing fault: try again later
        ├── DamagedDocumentError   a document has not the form that we write it in
        └── RefusedError       the store will never take this: it is the caller's mistake

A duplicate or a late message is an outcome, not an exception.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One thing wrong with a message: `field` is a dotted path, `reason` a sentence for people."""

    field: str
    reason: str

    def __str__(self) -> str:
        """Show the field before its reason."""
        return f"{self.field}: {self.reason}"


class FirestateError(Exception):
    """The base of every error of this package."""


class InvalidMessageError(FirestateError):
    """A message that no retry can make good; `problems` says what is wrong, field by field."""

    def __init__(self, code: str, problems: Sequence[FieldProblem]) -> None:
        """Keep a short `code` for grouping (`schema`, `conflict`, ...) beside the problems."""
        super().__init__(f"{code}: " + "; ".join(map(str, problems)))
        self.code = code
        self.problems = tuple(problems)


class SchemaTooNewError(FirestateError):
    """A document or message carries a `schema_version` that this release does not know."""


class ContentionError(FirestateError):
    """Too many writers met on one document; nothing was written, trying again is safe."""


class UnexpectedError(FirestateError):
    """An error that nobody thought of, without its text: that might quote a payload."""


class ConfigurationError(FirestateError):
    """A setting is missing or cannot be used."""


class FencedError(FirestateError):
    """Another process has taken up this session: what this one saves would change nothing."""

    def __init__(self, session: str) -> None:
        """Name the session as its document is named."""
        super().__init__(
            f"{session} was taken up by another process: this one is fenced off, and nothing of it "
            "is stored any more; resume the agent to go on"
        )


class EmergencyStopError(FirestateError):
    """An operator has set the emergency stop; `reason` is theirs."""

    def __init__(self, reason: str | None) -> None:
        """Keep the reason."""
        super().__init__(f"emergency stop: {reason or 'no reason given'}")
        self.reason = reason


class UnknownSessionError(FirestateError):
    """There is no such session, or it was deleted."""


class OutboxError(FirestateError):
    """The outbox cannot be used; what was to be appended is not kept."""


class OutboxFullError(OutboxError):
    """The outbox holds as much as it may, or its disk is full; nothing was dropped but this."""

    def __init__(self, outbox: str) -> None:
        """Name the outbox."""
        super().__init__(
            f"the outbox ({outbox}) is full, or its disk: this message is not kept. `firestate "
            "outbox` says what waits, and why; `outbox_bytes` of StateManager is the bound"
        )


class AccountError(FirestateError):
    """Firebase Authentication did not do what was asked."""


class UnknownAccountError(AccountError):
    """There is no such account: whoever it is has never signed in."""


class StoreError(FirestateError):
    """The store failed; nothing of the commit that raised it is to be relied on."""


class ConflictError(StoreError):
    """Somebody else wrote first: what was read is no longer what is stored."""


class ExistsError(ConflictError):
    """What was to be created is there already. Any other conflict says nothing about that."""


class UnavailableError(StoreError):
    """The store cannot be reached, or is overloaded, for now."""


class DamagedDocumentError(StoreError):
    """A stored document has not the form that Firestate writes it in: somebody else has written."""


class RefusedError(StoreError):
    """The store will not take this write however often it is tried."""
