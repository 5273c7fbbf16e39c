"""The JSON Schema of both messages, as files, for agents in other languages.

`python -m firestate.schema.export` writes them; a test says when they are out of date. A JSON
Schema cannot say everything that the models check (sizes, depths, keys): what passes it may still
go to quarantine, with the reason.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import TypeAdapter

from firestate.schema.messages import (
    EVENT_TOPIC,
    STATE_TOPIC,
    EventMessage,
    StateMessage,
    TombstoneMessage,
)

FOLDER = Path(__file__).parent / "json"


def schemas() -> dict[str, str]:
    """Give the text of each schema by the name of its file."""
    states: TypeAdapter[StateMessage | TombstoneMessage] = TypeAdapter(
        StateMessage | TombstoneMessage
    )
    events = TypeAdapter(EventMessage)
    titled = {STATE_TOPIC: states.json_schema(), EVENT_TOPIC: events.json_schema()}
    return {
        f"{topic}.schema.json": json.dumps(
            {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                **schema,
                "title": f"A message of topic {topic}",
            },
            indent=2,
        )
        + "\n"
        for topic, schema in titled.items()
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in schemas().items():
        (FOLDER / name).write_text(text)
