"""From CloudEvents, as functions-framework hands them over, to the pipeline's steps.

What a step needs is imported when its function is first called: each function is deployed by
itself, and none should pay at its cold start for what only others use.
"""
# ruff: noqa: PLC0415 - the imports inside the functions are the point, see above

from __future__ import annotations

import base64
import binascii
import gc
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from firestate.errors import FieldProblem, InvalidMessageError
from firestate.pipeline.deliveries import Delivery, StepReport, printable
from firestate.pipeline.logs import logged
from firestate.pipeline.wiring import project, roll_up, store

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloudevents.http import CloudEvent


def on_state_message(event: CloudEvent) -> None:
    """Ingest a message of `agent-state`."""
    from firestate.pipeline.ingest_state import ingest_state

    delivery = delivered("agent-state", event)
    _log("ingest_state", event, delivery, lambda: ingest_state(store(), delivery, _now()))


def on_event_message(event: CloudEvent) -> None:
    """Ingest a message of `agent-coordination`."""
    from firestate.pipeline.ingest_event import ingest_event

    delivery = delivered("agent-coordination", event)
    _log("ingest_event", event, delivery, lambda: ingest_event(store(), delivery, _now()))


def on_dead_letter(topic: str, event: CloudEvent) -> None:
    """Keep a message that was published to `topic`, and came by the dead-letter topic of that."""
    from firestate.pipeline.dead_letter import keep_dead_letter

    delivery = delivered(topic, event)
    _log("dead_letter", event, delivery, lambda: keep_dead_letter(store(), delivery, _now()))


def on_state_written(event: CloudEvent) -> None:
    """Derive from a state that was written; a removed one changes no counter."""
    from firestate.pipeline.derive_state import FIELDS, derive_state
    from firestate.stores.firestore_event import changed_document

    def work() -> StepReport:
        state = changed_document(_protobuf(event), FIELDS)
        return derive_state(store(), state) if state else _removed()

    _log("derive_state", event, None, work)


def on_event_created(event: CloudEvent) -> None:
    """Derive from a coordination event that was created."""
    from firestate.pipeline.derive_event import FIELDS, derive_event
    from firestate.stores.firestore_event import changed_document

    def work() -> StepReport:
        created = changed_document(_protobuf(event), FIELDS)
        return derive_event(store(), created) if created else _removed()

    _log("derive_event", event, None, work)


def on_counters_changed(event: CloudEvent) -> None:
    """Roll up after a shard or the controls were written."""
    from firestate.stores.firestore_event import changed_document

    def work() -> StepReport:
        changed = changed_document(_protobuf(event), ())
        return roll_up().wake(changed.updated_at if changed else None)

    _log("roll_up", event, None, work)


def on_schedule() -> None:
    """Sweep."""
    from firestate.pipeline.sweep import sweep

    try:
        logged("sweep", lambda: sweep(store(), roll_up(), _now()), project=project())
    finally:
        _loaded()


def delivered(topic: str, event: CloudEvent) -> Delivery:
    """Read the Pub/Sub message out of its CloudEvent.

    What is no such thing is taken whole as the message's bytes: it then goes to quarantine,
    where somebody can look at it, and does not come again.
    """
    body = _json(event.get_data())
    message = body.get("message") if isinstance(body, dict) else None
    if not isinstance(message, dict):
        return Delivery(topic, _raw(event.get_data()))
    try:
        data = base64.b64decode(message.get("data") or "", validate=True)
    except (binascii.Error, ValueError, TypeError):
        return Delivery(topic, _raw(body))
    attributes = message.get("attributes")
    named = attributes.items() if isinstance(attributes, dict) else ()
    return Delivery(
        topic,
        data,
        {printable(k): printable(v) for k, v in named},
        printable(message.get("messageId", "")),
    )


def _protobuf(event: CloudEvent) -> bytes:
    data: Any = event.get_data()
    if data is None:
        return b""  # an empty body: a message without any field set
    if not isinstance(data, bytes):
        problem = FieldProblem("data", f"must be protobuf, not {type(data).__name__}")
        raise InvalidMessageError("event", [problem])
    return data


def _json(data: Any) -> Any:  # noqa: ANN401 - whatever the request's body held
    if not isinstance(data, bytes | str):
        return data
    try:
        return json.loads(data)
    except ValueError:
        return None


def _raw(data: Any) -> bytes:  # noqa: ANN401 - whatever the request's body held
    if isinstance(data, bytes):
        return data
    return data.encode() if isinstance(data, str) else json.dumps(data).encode()


def _log(
    function: str, event: CloudEvent, delivery: Delivery | None, work: Callable[[], StepReport]
) -> None:
    try:
        logged(
            function,
            work,
            project=project(),
            traceparent=delivery.traceparent if delivery else None,
            message_id=delivery.message_id if delivery else event["id"],
        )
    finally:
        _loaded()


def _loaded() -> None:
    """After the first event all that a function needs is loaded, and stays: see main.py."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def _removed() -> StepReport:
    from firestate.ingest.outcomes import Outcome

    return StepReport(Outcome.IGNORED)


def _now() -> datetime:
    return datetime.now(UTC)
