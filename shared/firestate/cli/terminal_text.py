"""What users wrote, for terminals: seen as it is, and never obeyed."""

from __future__ import annotations

import json
from typing import Any


def safe_text(text: str) -> str:
    r"""Write what does not print (controls, half pairs, marks of direction) as `\u001b`."""
    return text if text.isprintable() else "".join(map(_visible, text))


def safe_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Give JSON that means the same value and prints as it stands."""
    return safe_lines(json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True))


def safe_lines(text: str) -> str:
    """Write each line so; the breaks of lines stay."""
    return "\n".join(map(safe_text, text.split("\n")))


def cut(text: str, most: int) -> str:
    """Give at most the first `most` characters, and say how many are left out."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most:,} more)"


def _visible(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]
