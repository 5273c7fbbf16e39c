"""The function `migrate_json_state`: a migration from a bucket, asked for by a JSON object.

    {"source": "gs://bucket/prefix", "apply": true, "verify": true}
    {"undo": "gs://bucket/.firestate/migration/receipt-….jsonl"}

Without `apply` nothing is written but the plan. Plan, progress and receipts are kept in `work`, by
default `gs://bucket/.firestate/migration/`. Cut off by its time limit it goes on when it is called
again; before that it ends by itself, with `"finished": false`.
"""

from __future__ import annotations

import gc
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firestate.errors import ConfigurationError, FirestateError, UnavailableError
from firestate.migration.apply.apply_plan import apply_plan
from firestate.migration.apply.merge_controls import forget
from firestate.migration.apply.progress import outcomes_shown
from firestate.migration.apply.target import Target, firestore_label
from firestate.migration.apply.throttle import Throttle
from firestate.migration.bucket_workdir import BucketWorkdir
from firestate.migration.plan.plan_report import report_of
from firestate.migration.plan_store import find_earlier_plan, make_new_plan
from firestate.migration.sources.resolve_source import bucket_of, open_source
from firestate.migration.sources.source import WORK
from firestate.migration.verify.undo import undo
from firestate.migration.verify.verify_plan import verify_plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from firestate.stores.firestore import FirestoreStore

MOST_SECONDS = 3_000.0
"""Of the function's hour: what is left of it is for the batch under way, and for the answer."""

_KNOWN = frozenset({"source", "work", "apply", "verify", "undo", "rate"})
_OK, _WRONG, _FAILED, _LATER = 200, 400, 500, 503


def on_request(data: bytes, store: Callable[[], FirestoreStore]) -> tuple[dict[str, Any], int]:
    """Do what a request asks for; give the answer and its HTTP status."""
    gc.enable()  # main.py has switched it off for the start; this call makes garbage for an hour
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = _answer(_asked(data), store, Path(folder), began)
        status = _OK
    except ConfigurationError as error:
        found, status = {"error": str(error)}, _WRONG
    except UnavailableError as error:
        found, status = {"error": f"{error}: call again to go on"}, _LATER
    except FirestateError as error:
        found, status = {"error": str(error)}, _FAILED
    _log(found, status, time.monotonic() - began)
    return found, status


def _asked(data: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"the request is no JSON: {error}") from error
    if not isinstance(asked, dict) or not ("source" in asked) ^ ("undo" in asked):
        raise ConfigurationError('the request needs "source" (gs://...), or "undo" (a receipt)')
    if unknown := sorted(asked.keys() - _KNOWN):
        known = ", ".join(sorted(_KNOWN))
        raise ConfigurationError(f"the request has {', '.join(unknown)}; known are {known}")
    for name in ("apply", "verify"):
        if not isinstance(asked.get(name, False), bool):
            raise ConfigurationError(f"{name} must be true or false")
    rate = asked.get("rate")
    if rate is not None:
        number = isinstance(rate, int | float) and not isinstance(rate, bool)
        if not number or not math.isfinite(rate) or rate < 1:
            raise ConfigurationError("rate must be a number, writes a second, and 1 at least")
    if "undo" in asked and len(asked.keys() - {"undo", "rate"}):
        raise ConfigurationError('"undo" takes nothing beside it but "rate"')
    return asked


def _answer(
    asked: dict[str, Any], store: Callable[[], FirestoreStore], folder: Path, began: float
) -> dict[str, Any]:
    opened = store()
    target = Target(opened, Throttle(most=asked.get("rate")), firestore_label(opened.project))
    until = began + MOST_SECONDS
    if "undo" in asked:
        bucket, path = _bucket(asked, "undo")
        parent, _, name = path.rpartition("/")
        work = BucketWorkdir(bucket, parent, folder)
        receipt = work.fetch(name) if name else None
        if receipt is None:
            raise ConfigurationError(f"there is no receipt {asked['undo']}")
        undone = undo(receipt, target, until=lambda: time.monotonic() > until)
        if undone.finished:
            forget(work)
        counts = dict(undone.counts) | {"reasons": undone.reasons}
        return {"undone": counts, "finished": undone.finished}
    bucket, prefix = _bucket(asked, "source")
    kept = asked.get("work", f"gs://{bucket}/{WORK}/migration")
    work = BucketWorkdir(*_bucket({"work": kept}, "work"), folder)
    source = open_source(f"gs://{bucket}/{prefix}")
    wanted = asked.get("apply", False) or asked.get("verify", False)
    plan = (find_earlier_plan(source, work) if wanted else None) or make_new_plan(source, work)
    answer: dict[str, Any] = {"report": report_of(plan).as_json(), "finished": True}
    answer["report"]["plan_file"] = work.shown(plan.name)
    if asked.get("apply"):
        tally = apply_plan(source, work, target, until=lambda: time.monotonic() > until)
        answer["applied"] = outcomes_shown(tally) | {"reasons": tally.reasons}
        answer["finished"] = tally.finished
    if asked.get("verify") and answer["finished"]:
        found = verify_plan(source, work, target)
        answer["verified"] = dict(found.counts) | {"reasons": found.reasons}
        answer["receipt"] = work.shown(found.receipt)
    return answer


def _bucket(asked: dict[str, Any], name: str) -> tuple[str, str]:
    given = asked[name]
    found = bucket_of(given) if isinstance(given, str) else None
    if found is None:
        raise ConfigurationError(f"{name} must be an address in a bucket: gs://bucket/prefix")
    return found


def _log(answer: dict[str, Any], status: int, seconds: float) -> None:
    """Write one line, without any content of the files."""
    line = {
        "severity": "INFO" if status == _OK else "ERROR",
        "function": "migrate_json_state",
        "message": f"migrate_json_state: {status} {answer.get('error', '')}".rstrip(),
        "applied": {k: v for k, v in answer.get("applied", {}).items() if k != "reasons"},
        "latency_ms": round(seconds * 1000, 1),
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
