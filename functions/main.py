"""The deployed functions: which event comes in here, and who takes it. See functions.yaml."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

import functions_framework

# Looking for plugins of pydantic, of which there are none, takes 25 ms of each cold start.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
# Nothing that is loaded from here on is garbage, and looking for it takes 50 ms. The handlers
# switch it on again once the first event is answered.
gc.disable()

from firestate.pipeline import handlers  # noqa: E402 - see above
from firestate.pipeline.wiring import store  # noqa: E402 - see above

if TYPE_CHECKING:
    from typing import Any

    from cloudevents.http import CloudEvent
    from flask import Request


@functions_framework.cloud_event
def ingest_state(event: CloudEvent) -> None:
    """A message of topic agent-state -> agent_states, or quarantine."""
    handlers.on_state_message(event)


@functions_framework.cloud_event
def ingest_event(event: CloudEvent) -> None:
    """A message of topic agent-coordination -> coordination, or quarantine."""
    handlers.on_event_message(event)


@functions_framework.cloud_event
def dead_letter_states(event: CloudEvent) -> None:
    """What agent-state's subscription gave up -> quarantine."""
    handlers.on_dead_letter("agent-state", event)


@functions_framework.cloud_event
def dead_letter_events(event: CloudEvent) -> None:
    """What agent-coordination's subscription gave up -> quarantine."""
    handlers.on_dead_letter("agent-coordination", event)


@functions_framework.cloud_event
def derive_state(event: CloudEvent) -> None:
    """A written agent state -> ledger row, agent memory, shard."""
    handlers.on_state_written(event)


@functions_framework.cloud_event
def derive_event(event: CloudEvent) -> None:
    """A created coordination event -> its mark, agent memory, shard."""
    handlers.on_event_created(event)


@functions_framework.cloud_event
def roll_up(event: CloudEvent) -> None:
    """A written shard, or the controls -> system_state/global_config."""
    handlers.on_counters_changed(event)


@functions_framework.http
def sweep(request: Request) -> str:  # noqa: ARG001 - the scheduler's request says nothing
    """Every 15 minutes -> roll-up, stale agents, quarantine count; hourly the cheap audit."""
    handlers.on_schedule()
    return "swept"


@functions_framework.http
def migrate_json_state(request: Request) -> tuple[dict[str, Any], int]:
    """Old state files in a bucket -> a plan, documents, a receipt. Private; asked for by hand."""
    from firestate.migration.http_function import on_request  # noqa: PLC0415 - no message needs it

    return on_request(request.get_data(), store)
