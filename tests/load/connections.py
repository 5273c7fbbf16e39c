"""Subscriptions and triggers on the emulators, as Eventarc makes them of functions.yaml."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import httpx
from google.api_core.exceptions import AlreadyExists

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_ATTEMPTS = 5
"""So many tries before a message goes to the dead-letter topic: as few as Pub/Sub takes."""

DEAD_LETTERED = ("agent-state", "agent-coordination")
_SECONDS = 60.0


def subscribe(
    project: str,
    topic: str,
    name: str,
    push_endpoint: str,
    clients: tuple[Any, Any],
    *,
    dead_letters: bool,
) -> None:
    """Make the topic and a push subscription; `clients` are a publisher's and a subscriber's."""
    publisher, subscriber = clients
    request: dict[str, Any] = {
        "name": subscriber.subscription_path(project, name),
        "topic": _topic(publisher, project, topic),
        "push_config": {"push_endpoint": push_endpoint},
        # No retry policy: with one, the emulator forgets messages that are refused many at a time.
        "ack_deadline_seconds": 60,
    }
    if dead_letters and topic in DEAD_LETTERED:
        request["dead_letter_policy"] = {
            "dead_letter_topic": _topic(publisher, project, f"{topic}-dead-letter"),
            "max_delivery_attempts": MOST_ATTEMPTS,
        }
    subscriber.create_subscription(request=request)


def connect_trigger(project: str, host: str, name: str, trigger: Mapping[str, Any]) -> None:
    """Have the Firestore emulator on `host` tell of the changes that `trigger` describes."""
    filters = trigger["eventFilters"]
    pattern = trigger.get("eventFilterPathPatterns", {}).get("document")
    httpx.post(
        f"http://{host}/emulator/v1/projects/{project}/eventarcTrigger",
        timeout=_SECONDS,
        params={"eventarcTriggerId": name},
        json={
            "eventType": trigger["eventType"],
            "database": filters["database"],
            "namespace": filters["namespace"],
            "document": {
                "value": pattern or filters["document"],
                "matchType": "PATH_PATTERN" if pattern else "EXACT",
            },
        },
    ).raise_for_status()


def _topic(publisher: Any, project: str, topic: str) -> str:
    path: str = publisher.topic_path(project, topic)
    with contextlib.suppress(AlreadyExists):
        publisher.create_topic(name=path)
    return path
