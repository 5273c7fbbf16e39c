"""One JSON line a call, in the fields that Cloud Logging knows. Never a payload, never a token.

https://cloud.google.com/logging/docs/structured-logging#structured_logging_special_fields
"""

from __future__ import annotations

import json
import re
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from firestate.errors import FirestateError, UnexpectedError
from firestate.ingest.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from firestate.pipeline.deliveries import StepReport

_MOST_FRAMES = 8
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


def logged(
    function: str,
    work: Callable[[], StepReport],
    *,
    project: str | None = None,
    traceparent: str | None = None,
    message_id: str = "",
) -> StepReport:
    """Do `work` and log one line about it, whether it succeeds or raises."""
    started = time.monotonic()
    line: dict[str, object] = {"function": function, "message_id": message_id}
    if traceparent and (parts := _TRACEPARENT.fullmatch(traceparent)):
        line["logging.googleapis.com/trace"] = f"projects/{project}/traces/{parts[1]}"
        line["logging.googleapis.com/spanId"] = parts[2]
    try:
        report = work()
    except Exception as error:
        kind = type(error).__name__
        line |= {
            "severity": "ERROR",
            "message": f"{function}: raised, will be tried again: {kind}",
            "outcome": "raised",
        }
        # Our own errors name documents and reasons. Others, and what ours were made of, might quote
        # what they were given: so neither this line has their text nor the traceback that the web
        # server logs.
        line["raised_at"] = _places(error)
        if isinstance(error, FirestateError):
            _write(line | {"detail": str(error)}, started)
            raise error from None
        _write(line | {"detail": kind}, started)
        raise UnexpectedError(f"{function}: {kind}, see the line before") from None
    line |= {
        "severity": "WARNING" if report.outcome is Outcome.QUARANTINED else "INFO",
        "message": f"{function}: {report.outcome} {report.document}".rstrip(),
        "outcome": report.outcome.value,
        "document": report.document,
        "version": report.version,
        "detail": report.detail,
    }
    _write(line, started)
    return report


def _places(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-_MOST_FRAMES:]
    return " > ".join(f"{Path(each.filename).name}:{each.lineno} {each.name}" for each in frames)


def _write(line: dict[str, object], started: float) -> None:
    line["latency_ms"] = round((time.monotonic() - started) * 1000, 1)
    sys.stdout.write(json.dumps({k: v for k, v in line.items() if v != ""}) + "\n")
    sys.stdout.flush()
