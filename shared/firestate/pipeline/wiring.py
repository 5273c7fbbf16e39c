"""The one place where a function gets its store: made at the first event, kept by the instance."""

from __future__ import annotations

import os
from functools import cache

from google.cloud import firestore

from firestate.pipeline.roll_up import RollUp
from firestate.stores.firestore import FirestoreStore, translated


def project() -> str | None:
    """Give the project that the environment names; None leaves it to Google's client to find."""
    return os.environ.get("GOOGLE_CLOUD_PROJECT") or os.environ.get("GCLOUD_PROJECT")


@cache
def store() -> FirestoreStore:
    """Give the store on the project's Firestore."""
    with translated("Firestore", project()):
        return FirestoreStore(firestore.Client(project=project()))


@cache
def roll_up() -> RollUp:
    """Give the roll-up of this process."""
    return RollUp(store())
