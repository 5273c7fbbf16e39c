"""The parts of a trial of two releases on one store, and what each part has shown."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from firestate.audit.full import FullAudit
from firestate.audit.message_outcomes import MessageOutcomes
from firestate.client.outgoing import Outgoing
from firestate.ingest.refusal import quarantine_id
from firestate.schema.ids import GLOBAL_CONFIG, quarantine_path
from tests.chaos.settings import tell
from tests.upgrade.network import PATIENCE_SECONDS, Network
from tests.upgrade.releases import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.load.runner import Runner
    from tests.upgrade.old_clients import OldClients
    from tests.upgrade.releases import Release

_TWO = ("ingest_state", "ingest_event", "derive_state", "derive_event")
"""Functions that have two instances in each part: two of one release, or one of each."""

_ALONE = 0.2
_MOST_TIMES = 2.0
_FEWEST_FOLDS = 20
"""So many of the old release alone are waited for: what fewer tell is chance."""

_REDELIVERED = ("too_late", "conflict")
"""Codes with which the old release may refuse once more what the new one has stored elsewhere, or
in another form. It is known for what it is: its content is stored, or replaced."""

_EXPLAINED = ", though stored"
_SHOWN, _MOST_TEXT, _MOST_LINE = 5, 100, 500


@dataclass(frozen=True)
class Part:
    """A share of the minutes, with so many instances of each release.

    It goes on until the old release has folded memories anew at least as often as `folds` says.
    """

    title: str
    share: float
    old: int
    new: int
    folds: int = 0


BEFORE = Part("old alone", _ALONE, 2, 0, _FEWEST_FOLDS)
BOTH = Part("both", 1.0, 1, 1)
AFTER = Part("new alone", _ALONE, 0, 2)
BACK = Part("back to old", _ALONE, 2, 0)
AT_LAST = Part("new again", _ALONE, 0, 2)


@dataclass
class Result:
    """What one part has shown; `refused` is why messages are in quarantine.

    `drift` is by the new release, before any rederive. What the old release and the rederives
    say is there where they were run.
    """

    part: Part
    seconds: float = 0.0
    messages: int = 0
    published: int = 0
    fates: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    old: Counter[str] = field(default_factory=Counter)
    new: Counter[str] = field(default_factory=Counter)
    drift: Counter[str] = field(default_factory=Counter)
    old_rederived: Counter[str] | None = None
    old_drift: Counter[str] | None = None
    rederived: Counter[str] | None = None
    drift_left: Counter[str] | None = None

    @property
    def tally(self) -> Counter[str]:
        """What both releases did."""
        return self.old + self.new

    @property
    def counted(self) -> int:
        """How many states and events were counted."""
        return self.tally["states"] + self.tally["events"]

    @property
    def folds_each(self) -> float:
        """How many folds of all rows there were for each that was counted."""
        return self.tally["folds"] / max(self.counted, 1)


class Trial:
    """Both releases at work on one store, one part after the other; `wrong` is what went wrong."""

    def __init__(
        self, running: Runner, old: Release, new: Release, clients: OldClients, network: Network
    ) -> None:
        self.wrong: list[str] = []
        self.results: list[Result] = []
        self.all_fates: Counter[str] = Counter()
        self._running = running
        self.old, self.new = old, new
        self._clients = clients
        self._network = network

    def run(self, minutes: float) -> None:
        """Do all parts."""
        tell("old alone: the clients begin")
        self._use(BEFORE)
        self._network.warm_up()
        for part in (BEFORE, BOTH, AFTER):
            self._do(part, minutes)
        self._with_the_old_commands(self._do(BACK, minutes))
        last = self._do(AT_LAST, minutes)
        tell("new again: firestate rederive, and the audit after it")
        last.rederived = self.new.checkout.rederive(self._running)
        self._running.wait_quiet(PATIENCE_SECONDS)
        last.drift_left = self._audit(last.part.title)
        if last.drift_left:
            self.wrong.append(f"drift is left after the rederive: {dict(last.drift_left)}")
        tell(f"every message once more, {len(self._clients.sent)} in all")
        self.all_fates, _ = self._look_up("in the end", self._clients.sent)
        self._check_totals()
        self._check_folds()

    def _do(self, part: Part, minutes: float) -> Result:
        result = Result(part)
        self.results.append(result)
        self._use(part)
        before = len(self._clients.sent)
        old, new = self.old.tally(), self.new.tally()
        began = time.monotonic()
        try:
            result.published = self._network.load(
                part.title,
                60 * minutes * part.share,
                lambda: self.old.tally()["folds"] - old["folds"] >= part.folds,
            )
        finally:
            result.seconds = time.monotonic() - began
            result.old, result.new = self.old.tally() - old, self.new.tally() - new
            sent = self._clients.sent[before:]
            result.messages = len(sent)
        if refused := result.new["refused"]:
            self.wrong.append(f"{part.title}: the new release has refused {refused} deliveries")
        tell(f"{part.title}: all is counted; {len(sent)} messages are looked up, then the audit")
        result.fates, result.refused = self._look_up(part.title, sent)
        result.drift = self._audit(part.title)
        return result

    def _use(self, part: Part) -> None:
        router = self._running.router
        for name in self._running.instances:
            two = name in _TWO
            old = self.old.addresses(name, part.old if two else min(part.old, 1))
            new = self.new.addresses(name, part.new if two else min(part.new, 1))
            # What only the new release has goes on, as it would: nobody removes a function.
            router.connect(name, [*old, *new] or self.new.addresses(name, 1))

    def _with_the_old_commands(self, back: Result) -> None:
        """Have the old release rederive and audit what is stored: its word is shown, no more."""
        tell("back to old: its own firestate rederive and audit")
        try:
            back.old_rederived = self.old.checkout.rederive(self._running)
            self._running.wait_quiet(PATIENCE_SECONDS)
            findings = self.old.checkout.audit(self._running)
            for each in findings[:_SHOWN]:
                tell(f"back to old: its drift: {each['document']} {each['field']}")
            back.old_drift = Counter(each["kind"] for each in findings)
        except CommandError as error:
            tell(str(error))

    def _look_up(
        self, title: str, messages: Sequence[Outgoing]
    ) -> tuple[Counter[str], Counter[str]]:
        """Return what became of them, and why some are in quarantine."""
        met = MessageOutcomes(self._running.store).sort(messages)
        for message in met["missing"][:_SHOWN]:
            tell(f"{title}: missing: {message.data.decode()[:300]}")
        if met["missing"]:
            self.wrong.append(f"{title}: {len(met['missing'])} messages are missing")
        refused = Counter(self._reason(message) for message in met["quarantined"])
        if unexplained := {why: n for why, n in refused.items() if not why.endswith(_EXPLAINED)}:
            self.wrong.append(f"{title}: in quarantine: {unexplained}")
        return Counter({fate: len(each) for fate, each in met.items()}), refused

    def _reason(self, message: Outgoing) -> str:
        """Return why it is in quarantine, and whether its content is stored nevertheless."""
        store = self._running.store
        kept = store.read(quarantine_path(quarantine_id(message.topic, message.data)))
        code = str(kept.data["code"]) if kept else "gone meanwhile"
        # In other bytes it is not the one that is in quarantine.
        reworded = json.dumps(json.loads(message.data), indent=1).encode()
        met = MessageOutcomes(store).count([Outgoing(message.topic, reworded)])
        if code in _REDELIVERED and met["stored"] + met["superseded"]:
            return f"{code}{_EXPLAINED}"
        tell(f"in quarantine: {code}: {message.data.decode()[:300]}")
        return f"{code}, not explained"

    def _audit(self, title: str) -> Counter[str]:
        report = FullAudit(self._running.store, timedelta(0)).run()
        for finding in report.findings[:_SHOWN]:
            differs = _differing(finding.expected, finding.found)
            tell(f"{title}: drift: {finding.path} {finding.field}: {differs}"[:_MOST_LINE])
        if report.in_flight:
            self.wrong.append(f"{title}: {report.in_flight} are not counted, though all is quiet")
        return Counter(finding.kind.value for finding in report.findings)

    def _check_totals(self) -> None:
        """Compare the system's totals with what the clients know, whatever the audit says."""
        clients = self._clients
        sent = {"spawned": len(clients.sessions)} | clients.outcomes() | clients.events
        stored = self._running.store.read(GLOBAL_CONFIG)
        found = {}
        if stored:
            metrics = stored.data["system_metrics"]
            by_type = metrics["coordination"]["by_type"]
            found = {"spawned": stored.data["total_agents_spawned"]}
            found |= {name: metrics["tasks"][name] for name in clients.outcomes()}
            found |= {kind: each["total"] for kind, each in by_type.items()}
        if found != sent:
            self.wrong.append(f"the totals are {found}, the clients have sent {sent}")

    def _check_folds(self) -> None:
        alone, both = self.results[0].folds_each, self.results[1].folds_each
        if both > _MOST_TIMES * alone:
            self.wrong.append(
                f"{both:.3f} folds of all rows for each that both counted, "
                f"{alone:.3f} for the old one alone"
            )


def _differing(expected: object, found: object) -> str:
    """Return what was expected and what was found, of maps what differs alone."""
    if isinstance(expected, dict) and isinstance(found, dict):
        names = sorted(expected.keys() | found.keys())
        differ = [name for name in names if expected.get(name) != found.get(name)]
        return "; ".join(
            f"{name}: {_differing(expected.get(name), found.get(name))}" for name in differ
        )
    return f"{str(expected)[:_MOST_TEXT]} expected, {str(found)[:_MOST_TEXT]} found"
