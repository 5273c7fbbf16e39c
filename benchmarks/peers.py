"""How long a save takes that an agent waits for: Firestate, LangGraph, ADK, and a plain write.

.venv/bin/python -m benchmarks.peers [SAVES]

Starts the emulators, and `benchmarks/peers_saves.py` in the environment of the frameworks, which
measures and prints. All run on this machine: there is no network that anybody has to wait for, so
what goes to a server is faster here than it is with Google Cloud.
"""

from __future__ import annotations

import os
import subprocess
import sys

from google.cloud import pubsub_v1  # type: ignore[attr-defined] # a namespace without types

from firestate.schema.messages import EVENT_TOPIC, STATE_TOPIC
from tools.emulators import firestore_emulator, pubsub_emulator
from tools.processes import ROOT

PROJECT = "demo-peers"
PYTHON = ROOT / ".venv-frameworks/bin/python"


def main() -> int:
    """Start what is needed, and measure; 1 if anything was not stored."""
    if not PYTHON.exists():
        raise SystemExit("The frameworks are not there yet: run `make setup`.")
    with firestore_emulator() as documents, pubsub_emulator() as topics:
        hosts = {
            "FIRESTORE_EMULATOR_HOST": documents,
            "PUBSUB_EMULATOR_HOST": topics,
            "GOOGLE_CLOUD_PROJECT": PROJECT,
        }
        os.environ.update(hosts)
        publisher = pubsub_v1.PublisherClient()
        for topic in (STATE_TOPIC, EVENT_TOPIC):
            publisher.create_topic(name=publisher.topic_path(PROJECT, topic))
        command = [str(PYTHON), "benchmarks/peers_saves.py", *sys.argv[1:]]
        return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
