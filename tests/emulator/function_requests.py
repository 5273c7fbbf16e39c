"""Requests to functions, as Eventarc makes them of Pub/Sub messages and of Firestore's changes."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from google.cloud.firestore_v1.types import Document, DocumentChange

if TYPE_CHECKING:
    from firestate.stores.firestore import FirestoreStore

_TYPES = {
    "message": "google.cloud.pubsub.topic.v1.messagePublished",
    "written": "google.cloud.firestore.document.v1.written",
    "created": "google.cloud.firestore.document.v1.created",
}


def push_body(data: bytes, **attributes: str) -> dict[str, Any]:
    """Give what a push subscription sends for a message."""
    message = {
        "data": base64.b64encode(data).decode(),
        "attributes": attributes,
        "messageId": "1",
        "publishTime": "2026-11-23T12:00:00Z",
    }
    return {"message": message, "subscription": "projects/p/subscriptions/s"}


def event_headers(kind: str) -> dict[str, str]:
    """Give the headers of a CloudEvent in binary mode: `message`, `written` or `created`."""
    headers = {
        "ce-id": "1",
        "ce-specversion": "1.0",
        "ce-type": _TYPES[kind],
        "ce-source": "//firestore.googleapis.com/projects/p/databases/(default)",
    }
    content = "application/json" if kind == "message" else "application/protobuf"
    return headers | {"content-type": content}


def event_of(store: FirestoreStore, path: str) -> bytes:
    """Give the event data for a document as it is stored."""
    snapshot = store._client.document(path).get()
    name = f"projects/p/databases/(default)/documents/{path}"
    encode = store._client.batch()
    encode.set(store._client.document(path), snapshot.to_dict() or {})
    fields = encode._write_pbs[0].update.fields
    document = Document(name=name, fields=fields, update_time=snapshot.update_time)
    return bytes(DocumentChange.pb(DocumentChange(document=document)).SerializeToString())
