"""Two releases beside each other, then one alone, then back: is anything lost, what does it cost?

    python -m tests.upgrade.beside --old CHECKOUT [--minutes 5] [--seed 1] [--logs FOLDER]

CHECKOUT is a folder with the older release (`git worktree add CHECKOUT 30d4055`); the newer one is
this. Both are run by the runner of tests/load, with instances of every function of each release:

    old alone      once the clients have begun, a fifth of the minutes, and at least until it has
                   folded agents' memories anew 20 times: what is usual
    both           the minutes; each delivery goes to either release, at random
    new alone      a fifth
    back to old    a fifth: the new release was taken back. Then the old one's rederive and audit
    new again      a fifth, and then `firestate rederive`, and the audit

The load is what clients of the older release send (`old_clients`), as fast as it is taken; messages
come twice, out of order and late, deliveries fail before or after their work is done, and sweeps
run meanwhile. After each part all is waited for: what became of each message, and what the audit of
the new release finds, is shown in a table. In the end 1 is returned

- where a message is missing, or in quarantine, unless the old release has refused there once more
  what was stored before (`conflict`, where the new one has stored it in another form; `too_late`);
- where drift is left after the last rederive, or the totals are not what the clients have sent;
- where the memories of agents were folded anew, from all their rows, more than twice as often for
  each message that both counted as by the old release alone.

It takes twice the minutes and two or three more, and is no part of `make test`.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from rich.console import Console
from rich.table import Table

import firestate
from tests.chaos.settings import tell
from tests.load.grpc_counter import GrpcCounter
from tests.load.instances import Instances
from tests.load.runner import PROJECT, runner
from tests.upgrade.network import Network
from tests.upgrade.old_clients import OldClients
from tests.upgrade.releases import Checkout, CommandError, Release
from tests.upgrade.trial import Result, Trial
from tools.processes import Run

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator

_ROOT = Path(__file__).parents[2]
_AGENTS = 24
_INSTANCES = dict.fromkeys(("ingest_state", "ingest_event", "derive_state", "derive_event"), 2)
_NONE = "-"
_SHOWN = 5


def main() -> int:
    """Do what the command line says; return the exit code."""
    arguments = _parser().parse_args()
    old = Checkout("old", arguments.old.resolve())
    new = Checkout("new", _ROOT)
    try:
        old.check()
        new.check_file(firestate.__file__)  # this process counts as part of it, and what it starts
    except CommandError as error:
        tell(str(error))
        return 2
    with contextlib.ExitStack() as stack:
        logs = arguments.logs or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        trial = stack.enter_context(_trial(old, new, logs, arguments.seed))
        try:
            trial.run(arguments.minutes)
        except (TimeoutError, CommandError) as error:
            trial.wrong.append(f"{type(error).__name__}: {error}")
    _show(trial)
    return 1 if trial.wrong else 0


@contextlib.contextmanager
def _trial(old: Checkout, new: Checkout, logs: Path, seed: int) -> Iterator[Trial]:
    """Run the emulators, and the functions of both releases on them."""
    folders = {checkout.name: logs / checkout.name for checkout in (old, new)}
    for folder in folders.values():
        folder.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        tell("starting the emulators and the new release")
        running = stack.enter_context(runner(folders["new"], count=True, instances=_INSTANCES))
        assert running.functions is not None
        assert running.counter is not None
        tell("starting the old release")
        counter = stack.enter_context(GrpcCounter(running.firestore_host))
        functions = Instances(
            stack.enter_context(Run()),
            yaml.safe_load(old.functions.with_name("functions.yaml").read_text())["endpoints"],
            source=old.functions,
            environment=old.environment
            | {
                "FIRESTORE_EMULATOR_HOST": counter.address,
                "PUBSUB_EMULATOR_HOST": running.pubsub_host,
                "GOOGLE_CLOUD_PROJECT": PROJECT,
                "WORKERS": "1",
                "THREADS": "8",
            },
            logs=folders["old"],
        )
        functions.use(_INSTANCES)
        clients = OldClients(random.Random(seed), _AGENTS)
        yield Trial(
            running,
            Release(old, functions, counter, folders["old"]),
            Release(new, running.functions, running.counter, folders["new"]),
            clients,
            Network(running, clients, seed),
        )


def _show(trial: Trial) -> None:
    out = Console(width=130, highlight=False)
    shown = Table(title="Two releases beside each other")
    shown.add_column("")
    for result in trial.results:
        shown.add_column(result.part.title, justify="right")
    for name, cell in _ROWS.items():
        shown.add_row(name, *(cell(result) for result in trial.results))
    out.print(shown)
    out.print(f"All messages in the end: {_counts(trial.all_fates)}")
    for release in (trial.old, trial.new):
        for failure, number in release.failures.most_common(_SHOWN):
            name = release.checkout.name
            out.print(f"{number} deliveries failed, {name} release: {failure}", markup=False)
    for each in trial.wrong:
        out.print(f"WRONG: {each}", markup=False)
    if not trial.wrong:
        out.print("Nothing is missing, no drift is left, no storm of folds.")


def _counts(counts: Counter[str] | None) -> str:
    if counts is None:
        return _NONE
    return ", ".join(f"{n} {name}" for name, n in sorted(counts.items()) if n) or "0"


def _each(name: str) -> Callable[[Result], str]:
    return lambda result: f"{result.old[name]} / {result.new[name]}"


_ROWS: dict[str, Callable[[Result], str]] = {
    "seconds": lambda result: f"{result.seconds:.0f}",
    "distinct messages": lambda result: str(result.messages),
    "published, with duplicates": lambda result: str(result.published),
    **{
        fate: lambda result, fate=fate: str(result.fates[fate])  # type: ignore[misc] # bound here
        for fate in ("stored", "superseded", "duplicate", "missing")
    },
    "quarantined": lambda result: _counts(result.refused),
    "states counted, old / new": _each("states"),
    "events counted, old / new": _each("events"),
    "folds of all rows, old / new": _each("folds"),
    "  after damage, old / new": _each("after_damage"),
    "folds for 100 counted": lambda result: f"{100 * result.folds_each:.1f}",
    "put into quarantine, old / new": _each("refused"),
    "deliveries that failed, old / new": _each("raised"),
    "reads for each message": lambda result: (
        f"{result.tally['reads'] / max(result.messages, 1):.1f}"
    ),
    "drift, by the new release": lambda result: _counts(result.drift),
    "rederived by the old release": lambda result: _counts(result.old_rederived),
    "drift then, by the old release": lambda result: _counts(result.old_drift),
    "rederived by the new release": lambda result: _counts(result.rederived),
    "drift then, by the new release": lambda result: _counts(result.drift_left),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.upgrade.beside",
        description="Run two releases beside each other; takes twice the minutes, and a few more.",
    )
    parser.add_argument("--old", type=Path, required=True, help="a checkout of the older release")
    parser.add_argument("--minutes", type=float, default=5.0, help="of both; %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="of the load; %(default)s")
    parser.add_argument("--logs", type=Path, help="keep what the functions log in this new folder")
    return parser


if __name__ == "__main__":
    sys.exit(main())
