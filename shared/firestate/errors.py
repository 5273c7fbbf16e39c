"""Everything that Firestate raises, as one tree.

    FirestateError
    ├── InvalidMessageError    a message that can never succeed: it goes to quarantine
    ├── SchemaTooNewError      written by a newer release than this one: upgrade, then try again
    ├── ContentionError        gave up after many conflicts: a passing fault, Pub/Sub tries again
    ├── UnexpectedError        nobody thought of it: the log says its type and where it was raised
    ├── ConfigurationError     a setting is missing or wrong: the message says which
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
