"""Documents in our collections that no function of ours has written: into quarantine.

Somebody has put them there by hand, or by another program. No function can count one, and a trigger
that fails for it would come again for ever. So it is kept like a message that can never succeed, to
the last value, and then removed from the collection: in this order, so that a crash leaves it in
both, and loses it in none.
"""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from firestate.errors import ConflictError, FieldProblem, InvalidMessageError
from firestate.ingest.outcomes import Outcome
from firestate.pipeline.deliveries import Delivery, StepReport, printable
from firestate.schema.values import time_text
from firestate.stored_states import identity_in
from firestate.stores.protocol import Remove

if TYPE_CHECKING:
    from collections.abc import Callable

    from firestate.stores.protocol import Store, Stored

CODE = "foreign"
_TEXTS = ("event_id", "event_type", "source_agent_type", "source_agent_id")


def keep_foreign_state(store: Store, state: Stored) -> StepReport | None:
    """Move a document of `agent_states` that is no state into quarantine; None: it is one."""
    return None if _problem_of_state(state) is None else _keep(store, state, _problem_of_state)


def keep_foreign_event(store: Store, event: Stored) -> StepReport | None:
    """Move a document of `coordination` that is no event into quarantine; None: it is one."""
    return None if _problem_of_event(event) is None else _keep(store, event, _problem_of_event)


def _problem_of_state(state: Stored) -> FieldProblem | None:
    path, identity = state.path, identity_in(state.data)
    if identity is None:
        return FieldProblem("agent_id", f"{path} names no agent_type, agent_id and session_id")
    if path not in identity.state_paths:
        return FieldProblem("agent_id", f"{path} is not where the state of {identity} belongs")
    return None


def _problem_of_event(event: Stored) -> FieldProblem | None:
    for name in _TEXTS:
        if not isinstance(event.data.get(name), str):
            return FieldProblem(name, f"{event.path} has no text there")
    if not isinstance(event.data.get("timestamp"), datetime):
        return FieldProblem("timestamp", f"{event.path} has no time there")
    return None


def _keep(
    store: Store, brought: Stored, problem_of: Callable[[Stored], FieldProblem | None]
) -> StepReport:
    # Loaded here: a function should not pay at its cold start for what nearly never comes.
    from firestate.pipeline.quarantine import quarantine  # noqa: PLC0415
    from firestate.schema.messages import EVENT_TOPIC, STATE_TOPIC  # noqa: PLC0415

    # The trigger brings only what deriving needs, as it was: somebody may have mended it since.
    stored = store.read(brought.path)
    problem = None if stored is None else problem_of(stored)
    if stored is None or problem is None:
        return StepReport(Outcome.IGNORED, brought.path, detail="it was removed or mended since")
    topic = STATE_TOPIC if problem_of is _problem_of_state else EVENT_TOPIC
    content = {"path": stored.path, "document": stored.data}
    data = json.dumps(content, ensure_ascii=False, default=_as_json).encode()
    delivery = Delivery(topic, data, {"document": printable(stored.path)})
    error = InvalidMessageError(CODE, [problem])
    report = quarantine(store, delivery, error, stored.updated_at)
    # Whoever has written it meanwhile has set off another trigger, which does the same.
    with suppress(ConflictError):
        store.commit([Remove(stored.path, stored.token)])
    return report


def _as_json(value: object) -> object:
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    return str(value)  # what only Firestore knows: a reference, a place on the globe
