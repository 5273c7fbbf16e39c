"""How much chaos is wanted: `make test` takes the default share, `make chaos` sets all of these.

CHAOS_SEEDS    first..last, or one seed: which histories, and the seed of the first batch
CHAOS_BATCHES  batches through the runner
CHAOS_ROUNDS   rounds with a frozen process
CHAOS_KILLS    kills of a process of agents, 50 saves and events between two of them
CHAOS_TAKEN    times that one process takes a session from another
CHAOS_MIGRATION  applies,records,kills: migrations, records of each, kills of their processes in all
CHAOS_SECONDS  how long a way is cut off, and agents save as fast as they are told to
CHAOS_FOLDS    rounds of two roll-ups that fold at the same moment
CHAOS_BAD      small,large: bad messages on the local engine, and how many of 9 MB
CHAOS_INTERRUPTED  timers,signals,lines: signals of a timer at random moments, signals of each kind
               to processes of agents, and of the lines of each call every how many is interrupted
"""

from __future__ import annotations

import os
import re
import sys

_SEEDS, _BATCHES, _ROUNDS = "0..19", "8", "5"
_MIGRATION = "1,300,6"
_KILLS, _TAKEN, _SECONDS = "8", "5", "4"
_FOLDS, _BAD = "80", "2000,6"
_INTERRUPTED = "1000,6,96"
_RANGE = re.compile(r"(\d+)(?:\.\.(\d+))?")


def seeds() -> range:
    """Give the seeds to run; raises ValueError where CHAOS_SEEDS holds no such range."""
    text = os.environ.get("CHAOS_SEEDS") or _SEEDS
    match = _RANGE.fullmatch(text)
    if match is None or int(match[2] or match[1]) < int(match[1]):
        message = f"CHAOS_SEEDS must be first..last or one number, not {text!r}"
        raise ValueError(message)
    return range(int(match[1]), int(match[2] or match[1]) + 1)


def batches() -> int:
    """Give how many batches to run, the first of them with the first of `seeds`."""
    return _number("CHAOS_BATCHES", _BATCHES)


def rounds() -> int:
    """Give how many times to freeze a process."""
    return _number("CHAOS_ROUNDS", _ROUNDS)


def kills() -> int:
    """Give how many times to kill the process of agents."""
    return _number("CHAOS_KILLS", _KILLS)


def applies() -> int:
    """Give how many migrations to apply."""
    return _migration()[0]


def records() -> int:
    """Give how many records each migration has."""
    return _migration()[1]


def migration_kills() -> int:
    """Give how many times to kill a process that applies one, over all of them."""
    return _migration()[2]


def _migration() -> list[int]:
    return _numbers("CHAOS_MIGRATION", "applies,records,kills", _MIGRATION)


def taken() -> int:
    """Give how many times to take a session from another process."""
    return _number("CHAOS_TAKEN", _TAKEN)


def seconds() -> int:
    """Give how long a way is cut off, and how long agents save flat out."""
    return _number("CHAOS_SECONDS", _SECONDS)


def folds() -> int:
    """Return how often two roll-ups are to fold at the same moment."""
    return _number("CHAOS_FOLDS", _FOLDS)


def bad_messages() -> tuple[int, int]:
    """Return how many bad messages are wanted, small ones and large ones."""
    small, large = _numbers("CHAOS_BAD", "small,large", _BAD)
    return small, large


def timers() -> int:
    """Return how many signals of a timer are to interrupt calls of agents."""
    return _interrupted()[0]


def signals() -> int:
    """Return how many signals of each kind the processes of agents are to get."""
    return _interrupted()[1]


def lines() -> int:
    """Return of how many lines of a call one is to be interrupted."""
    return _interrupted()[2]


def _interrupted() -> list[int]:
    return _numbers("CHAOS_INTERRUPTED", "timers,signals,lines", _INTERRUPTED)


def tell(line: str) -> None:
    """Say how far it is: `make chaos` shows it, otherwise pytest keeps it for a failure."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _number(name: str, default: str) -> int:
    text = os.environ.get(name) or default
    if not text.isdecimal():
        message = f"{name} must be a number, not {text!r}"
        raise ValueError(message)
    return int(text)


def _numbers(name: str, parts: str, default: str) -> list[int]:
    text = os.environ.get(name) or default
    numbers = [int(each) for each in text.split(",") if each.isdecimal()]
    if len(numbers) != text.count(",") + 1 or len(numbers) != parts.count(",") + 1:
        message = f"{name} must be {parts}, not {text!r}"
        raise ValueError(message)
    return numbers
