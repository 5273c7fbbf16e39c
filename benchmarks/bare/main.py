"""The least that a function on Firestore can be: it reads one document and writes one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import functions_framework
from google.cloud import firestore

if TYPE_CHECKING:
    from cloudevents.http import CloudEvent

clients: list[firestore.Client] = []


@functions_framework.cloud_event
def bare(event: CloudEvent) -> None:
    """Read one document and write it."""
    if not clients:
        clients.append(firestore.Client())
    document = clients[0].document("bare/document")
    document.get()
    document.set({"event": event["id"]})
