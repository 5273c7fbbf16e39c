"""Deploy: say what will be touched, ask, and then do it: `make deploy PROJECT=my-project`.

Three steps: the gcloud lines for before (tools/cloud.py), the Firebase CLI, those for after. Each
can be run again; what fails is told, and nothing after it is begun.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass

from tools.cloud import DEAD_LETTERS, endpoints, problem, region, script
from tools.emulator_files import FIREBASE
from tools.processes import ROOT

_ASKS = (
    "asks by itself: at the first deploy, whether functions may be tried again, and how\n"
    "long their images are kept; later, before it removes a function or an index."
)
_ASKED_NOTHING = (
    "is not asked either: it REMOVES functions of Firestate's that are no longer in the\n"
    "table, and indexes of the database that are not in the file."
)


@dataclass(frozen=True)
class Step:
    """One thing to run."""

    what: str
    command: tuple[str, ...]


def steps(project: str, *, unasked: bool = False) -> list[Step]:
    """Give what a deploy runs, in order; `unasked` lets the Firebase CLI ask nothing either."""
    firebase = [str(FIREBASE), "deploy", "--project", project, "--only", "functions,firestore"]
    firebase += ["--force"] if unasked else []
    return [
        Step("accounts, roles, topics", ("bash", "-c", script("before", project))),
        Step("functions, rules, indexes", tuple(firebase)),
        Step("invokers, retries, dead letters", ("bash", "-c", script("after", project))),
    ]


def plan(project: str, *, unasked: bool = False) -> str:
    """Say what will be touched."""
    indexes = json.loads((ROOT / "firestore.indexes.json").read_text())
    expiring = [each["collectionGroup"] for each in indexes["fieldOverrides"] if each.get("ttl")]
    number = len(indexes["indexes"])
    functions = endpoints()
    touched = {
        "make, where there are none": (
            f"the services of Google Cloud that it uses; the Firestore database; the topics "
            f"{' and '.join(DEAD_LETTERS)}, and for each one of dead letters; the accounts "
            "firestate-functions and firestate-agents, with their roles; a role for the default "
            "compute account, which builds, and for Pub/Sub's own, which moves dead letters"
        ),
        "make or update": (
            f"{len(functions)} functions ({', '.join(functions)}) with their triggers and the "
            "schedule, who may call them, and how their events are tried again"
        ),
        "REPLACE": "the security rules of the database",
        "make": (
            f"{number} composite indexes, and settings of fields: {' and '.join(expiring)} get a "
            "time to live"
        ),
    }
    lines = "\n".join(_paragraph(what, which) for what, which in touched.items())
    return f"""\
This deploys Firestate to the project {project}, in {region()}. It will

{lines}

It touches no document. To read each line first:
  .venv/bin/python -m tools.cloud before {project}
  .venv/bin/python -m tools.cloud after {project}

The Firebase CLI {_ASKED_NOTHING if unasked else _ASKS}
"""


def _paragraph(what: str, which: str) -> str:
    margin = " " * 31
    return textwrap.fill(
        which, 98, break_on_hyphens=False, initial_indent=f"  {what:29}", subsequent_indent=margin
    )


def confirmed(project: str) -> bool:
    """Ask for the project's name: a plain yes is too easily given to the wrong one."""
    try:
        answer = input(f"To go on, type the project's name ({project}): ").strip()
    except (EOFError, KeyboardInterrupt):
        answer = ""
        print()
    return answer == project


def run(every: list[Step]) -> int:
    """Run the steps; stop at the first that fails, and give its exit code."""
    for number, step in enumerate(every, 1):
        print(f"[{number}/{len(every)}] {step.what}", flush=True)
        done = subprocess.run(step.command, cwd=ROOT, check=False)
        if done.returncode:
            print(
                f"Step {number}, {step.what}, failed (code {done.returncode}). Nothing after it "
                "was begun; once it is put right, the same command goes on.",
                file=sys.stderr,
            )
            return done.returncode
    return 0


def main() -> int:
    """Say, ask, do; return the exit code."""
    parser = argparse.ArgumentParser(prog="make deploy", description="Deploy Firestate.")
    parser.add_argument("project")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    arguments = parser.parse_args()
    if found := problem(arguments.project):
        print(found, file=sys.stderr)
        return 2
    print(plan(arguments.project, unasked=arguments.yes))
    if missing := [name for name in ("gcloud", "bash") if not shutil.which(name)]:
        print(
            f"{' and '.join(missing)} cannot be found, nothing was done: install the Google Cloud "
            "CLI, or run what `python -m tools.cloud` prints in Cloud Shell, before and after "
            f"`npx firebase deploy --project {arguments.project} --only functions,firestore`.",
            file=sys.stderr,
        )
        return 3
    if not arguments.yes and not confirmed(arguments.project):
        print(f"That is not {arguments.project}: nothing was done.", file=sys.stderr)
        return 1
    code = run(steps(arguments.project, unasked=arguments.yes))
    if not code:
        print(f"Deployed. Look: .venv/bin/firestate system --project {arguments.project}")
    return code


if __name__ == "__main__":
    sys.exit(main())
