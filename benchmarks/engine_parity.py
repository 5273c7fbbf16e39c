"""Recorded runs on the local engine and on the emulators: the same documents, the same counters?

.venv/bin/python benchmarks/engine_parity.py FOLDER

FOLDER holds transcripts that `firestate replay` reads. On the emulators they go through the runner,
with the real functions, flat out; on the local engine one after the other. Compared is every
document, field by field, but for times of the servers and for what remembers by which of its
states, which may have overtaken each other, a session was counted last.
"""

from __future__ import annotations

import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from firestate.local.engine import LocalEngine
from firestate.replay.message_files import read_messages
from tests.harness import everything
from tests.load.runner import runner

if TYPE_CHECKING:
    from firestate.client.outgoing import Outgoing

_HISTORY = ("counted_version", "version", "counted_at")


def main() -> int:
    """Play on both and compare; 1 if anything differs."""
    messages = read_messages([Path(sys.argv[1])], datetime.now(UTC))
    with tempfile.TemporaryDirectory() as folder:
        local, seconds = _on_local(Path(folder) / "state.db", messages)
        print(f"local engine: {len(messages):,} messages, settled after {seconds:.1f} s")
        cloud, seconds = _on_emulators(Path(folder), messages)
        print(f"emulators: {len(messages):,} messages, settled after {seconds:.1f} s")
    wrong = list(differences(local, cloud))
    for line in wrong[:20]:
        print(line)
    print(f"{len(local):,} documents, {len(cloud):,} documents, {len(wrong):,} differences")
    return int(bool(wrong) or not local)


def differences(one: object, other: object, path: str = "") -> list[str]:
    """Give where two values differ, in words."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            line
            for key in sorted(one.keys() | other.keys())
            if key not in _HISTORY
            for line in differences(one.get(key), other.get(key), f"{path} {key}")
        ]
    # A counter that came down to zero again: it was there only if the way up was counted too.
    if (one, other) in ((0, None), (None, 0)):
        return []
    return [] if one == other else [f"{path}: {one!r:.200} or {other!r:.200}"]


def _on_local(file: Path, messages: list[Outgoing]) -> tuple[dict[str, Any], float]:
    began = time.monotonic()
    with LocalEngine(file) as engine:
        for message in messages:
            engine.publish(message)
        engine.settle()
        return everything(engine.store), time.monotonic() - began


def _on_emulators(logs: Path, messages: list[Outgoing]) -> tuple[dict[str, Any], float]:
    with runner(logs) as running:
        began = time.monotonic()
        running.publish(messages)
        running.wait_quiet(1_200)
        return everything(running.store), time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
