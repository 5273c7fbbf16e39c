"""Look for known vulnerabilities in what is installed, and for secrets in what is committed.

python -m tools.security_scan

Each part says what it found. That there is no network, or no repository, is told and is no failure;
what is found is one, and so is a tool that does not work.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from tools.processes import ROOT

REQUIREMENTS = ("tools/requirements.txt", "tools/requirements-frameworks.txt")
"""The first holds whatever is installed for development, by agents, in the cloud."""

_SECONDS = 300
_IDS = r'^\s*"id": "[0-9a-f]{32}",?$'
"""Ids of messages, in files that a framework has saved: JSON, which takes no remark."""
_DIGESTS = r"^tests/upgrade/samples/"
"""What an older release has written, by a program beside it: full of digests."""


_NO_NETWORK = ("ConnectionError", "ConnectTimeout", "ReadTimeout", "ProxyError", "SSLError")
"""What pip-audit ends with where it reaches no index."""


@dataclass(frozen=True)
class Verdict:
    """What a part says in one line, what it has found, and whether it did not work at all."""

    said: str
    found: tuple[str, ...] = ()
    broken: bool = False


def vulnerabilities(output: str, errors: str) -> Verdict:
    """Read what pip-audit has printed for one list of packages."""
    try:
        packages: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except (ValueError, KeyError):
        said = _last_line(errors)
        offline = any(name in said for name in _NO_NETWORK)
        return Verdict(f"vulnerabilities: could not be looked for ({said})", broken=not offline)
    known = [each for each in packages if "skip_reason" not in each]
    found = tuple(
        f"{each['name']} {each['version']}: {one['id']}, "
        f"mended in {', '.join(one['fix_versions']) or 'no version yet'}"
        for each in known
        for one in each["vulns"]
    )
    if not known:
        return Verdict(
            "vulnerabilities: could not be looked for (the package index tells of none of "
            f"{len(packages)} packages)"
        )
    skipped = len(packages) - len(known)
    unknown = f", {skipped} unknown to the index" if skipped else ""
    return Verdict(f"vulnerabilities: {len(found)} in {len(known)} packages{unknown}", found)


def secrets(output: str, errors: str) -> Verdict:
    """Read what detect-secrets has printed."""
    try:
        results: dict[str, list[dict[str, Any]]] = json.loads(output)["results"]
    except (ValueError, KeyError):
        said = _last_line(errors)
        return Verdict(f"secrets: could not be looked for ({said})", broken=True)
    found = tuple(
        f"{path}:{each['line_number']}: {each['type']}"
        for path, listed in results.items()
        for each in listed
    )
    return Verdict(f"secrets: {len(found)} in the files of the repository", found)


def _last_line(errors: str) -> str:
    return (errors.strip().splitlines() or ["it said nothing"])[-1][:120]


def _vulnerabilities(requirements: str) -> Verdict:
    options = ["--format", "json", "--no-deps", "--disable-pip", "--progress-spinner", "off"]
    return vulnerabilities(*_run("pip_audit", *options, "-r", requirements))


def _secrets() -> Verdict:
    inside = ["git", "rev-parse", "--is-inside-work-tree"]
    try:
        subprocess.run(inside, cwd=ROOT, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return Verdict("secrets: could not be looked for (this is no git repository)")
    options = ["--exclude-lines", _IDS, "--exclude-files", _DIGESTS]
    return secrets(*_run("detect_secrets", "scan", *options))


def _run(module: str, *arguments: str) -> tuple[str, str]:
    command = [sys.executable, "-m", module, *arguments]
    try:
        done = subprocess.run(
            command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        return "", f"no answer within {_SECONDS} s"
    return done.stdout, done.stderr


def main() -> int:
    """Look for both; 1 if anything is found, or could not be looked for by a fault of ours."""
    verdicts = [*map(_vulnerabilities, REQUIREMENTS), _secrets()]
    for verdict in verdicts:
        print(verdict.said)
        for each in verdict.found:
            print(f"  {each}")
    return 1 if any(verdict.found or verdict.broken for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
