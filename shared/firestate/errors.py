"""Everything that Firestate raises, as one tree.

    FirestateError
    ├── InvalidMessageError    can never succeed: refused by `save`, or kept in quarantine
    ├── SchemaTooNewError      written by a newer release than this one: upgrade, then try again
    ├── ContentionError        gave up after many conflicts: a passing fault, Pub/Sub tries again
    ├── UnexpectedError        nobody thought of it: the log says its type and where it was raised
    ├── ConfigurationError     something that must be there is missing, or a setting is wrong: a
    │   │                      database, a project, a permission, credentials; it says what to do
    │   ├── MissingExtraError      a package of an extra; also an ImportError
    │   └── StateFileError         the local engine's file is damaged, foreign or read-only
    ├── FencedError            this session was taken up elsewhere, or resumed as another
    ├── SessionExistsError     a session that is to begin is there already: go on with it
    ├── TerminatedError        an agent that has ended is to begin something: resume it
    ├── EmergencyStopError     an operator has stopped all agents
    │   └── EmergencyStopUnknownError   nobody knows whether one has, and `when_unknown` is "closed"
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

A duplicate or a late message is an outcome, not an exception. Errors are values: they pickle, copy
and compare by what they hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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


class ValueLikeError(Exception):
    """An exception that pickles, copies and compares by its text and its attributes.

    Python copies an exception by calling its class with the text. Where the constructor takes
    something else, such as a reason, that would fail, or put its text around the text.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        """Say how to make it again: by the text as it is, then the attributes and notes."""
        made: tuple[Any, ...] = tuple(super().__reduce__())
        return (_restored, (type(self), self.args), *made[2:])

    def __eq__(self, other: object) -> bool:
        """Compare type, text and attributes; notes, cause and traceback say how it came here."""
        if type(other) is not type(self):
            return NotImplemented
        return self.args == other.args and _attributes(self) == _attributes(other)

    def __hash__(self) -> int:
        """Hash what cannot be unhashable: equal errors have equal texts."""
        return hash((type(self), str(self)))


def _restored(kind: type[ValueLikeError], args: tuple[Any, ...]) -> ValueLikeError:
    """Make an error whose text is composed already: without the constructors of this package."""
    error = kind.__new__(kind)
    super(ValueLikeError, error).__init__(*args)
    return error


def _attributes(error: BaseException) -> dict[str, Any]:
    return {name: value for name, value in vars(error).items() if name != "__notes__"}


class FirestateError(ValueLikeError):
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
    """Something has to be set up or put right first: the message says what, where, and how."""


class MissingExtraError(ConfigurationError, ImportError):
    """A package of one of Firestate's extras cannot be imported; `extra` names the extra."""

    def __init__(self, what: str, extra: str, reason: str) -> None:
        """Say `what` needs the extra, and the `reason` why the import has failed."""
        super().__init__(
            f"{what} needs the extra {extra!r}, which is missing or too old ({reason}): in the "
            f'folder of Firestate, run `pip install "./shared[{extra}]"`'
        )
        self.extra = extra


class StateFileError(ConfigurationError):
    """The local engine's file cannot be used: it is damaged, of another program, or read-only.

    `path` names it; `readable` says whether it can be looked at all the same.
    """

    def __init__(
        self, path: object, reason: str, what_to_do: str, *, readable: bool = False
    ) -> None:
        """Say what is wrong with the file, and what to do."""
        super().__init__(f"{path} {reason}: {what_to_do}")
        self.path = str(path)
        self.readable = readable


class FencedError(FirestateError):
    """This session is somebody else's now: another folder has taken it up, or it was resumed.

    `goes_on_as` is the session in which the agent goes on, where it was resumed. `epoch` is that of
    what this folder has saved, which is merged or, until then, kept.
    """

    def __init__(
        self, session: str, *, epoch: int | None = None, goes_on_as: str | None = None
    ) -> None:
        """Name the session as its document is named."""
        if goes_on_as is not None:
            what = f"resumed as session {goes_on_as}"
            became = "all that was saved by it before counts in the former session"
        else:
            what = "taken up elsewhere"
            became = (
                "all that was saved by it before is in the state of the session's new holder, or "
                f"is merged into that from {session}/late/{'{epoch}' if epoch is None else epoch}"
            )
        super().__init__(
            f"{session} was {what}: this handle is fenced off, and saves nothing any more; "
            f"{became}. `manager.agent(...)` goes on with the agent"
        )
        self.epoch = epoch
        self.goes_on_as = goes_on_as


class SessionExistsError(FirestateError):
    """A session that is to begin is there already."""

    def __init__(self, session: str) -> None:
        """Name the session as its document is named."""
        super().__init__(
            f"{session} is there already: `manager.agent(...)` goes on with it, and "
            "`start(..., replace=True)` begins it anew and gives up what it holds"
        )


class TerminatedError(FirestateError):
    """An agent that has ended in its session is to begin something in it."""

    def __init__(self, session: str) -> None:
        """Name the session as its document is named."""
        super().__init__(
            f"{session} has ended: it begins no task; take it up or resume the agent to go on"
        )


class EmergencyStopError(FirestateError):
    """An operator has set the emergency stop; `reason` is theirs."""

    def __init__(self, reason: str | None) -> None:
        """Keep the reason."""
        super().__init__(f"emergency stop: {reason or 'no reason given'}")
        self.reason = reason


class EmergencyStopUnknownError(EmergencyStopError):
    """Whether an operator has stopped all agents is unknown; `when_unknown="closed"` stops then."""

    def __init__(self, why: str) -> None:
        """Say `why` it is unknown."""
        super().__init__(
            f"its state is unknown: {why}. No agent goes on, since when_unknown is 'closed': "
            "`manager.connection` says how the way to the store is; once it is open again, calls "
            "go on by themselves. StateManager(when_unknown='open') goes on without knowing"
        )


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


class PastNotKeptError(UnavailableError):
    """A read asks for a time of which the store does not know any more what was so then."""


class DamagedDocumentError(StoreError):
    """A stored document has not the form that Firestate writes it in: somebody else has written."""


class RefusedError(StoreError):
    """The store will not take this write however often it is tried."""
