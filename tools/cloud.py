"""What Firestate needs of a Google Cloud project besides what the Firebase CLI sets up.

python -m tools.cloud before PROJECT    accounts, roles and topics: before the first deploy
python -m tools.cloud after PROJECT     invokers, retries and dead letters: after a deploy

Each prints a script of gcloud lines, to be read and then run: `... | bash`. `make deploy` runs both
around the deploy itself. Running them again changes nothing.
"""

from __future__ import annotations

import re
import sys
from string import Template
from typing import Any

import yaml

from firestate.schema.messages import (
    EVENT_DEAD_LETTER_TOPIC,
    EVENT_TOPIC,
    STATE_DEAD_LETTER_TOPIC,
    STATE_TOPIC,
)
from tools.processes import ROOT

TABLE = ROOT / "functions" / "functions.yaml"
DEAD_LETTERS = {STATE_TOPIC: STATE_DEAD_LETTER_TOPIC, EVENT_TOPIC: EVENT_DEAD_LETTER_TOPIC}

_PROJECT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")

ACK_SECONDS_MORE = 30
"""Above a function's time limit: else Pub/Sub would deliver again while it is still at work."""


class Script(Template):
    """Shell with places to fill in, `%name`: so that the shell's own `$name` stays as it is."""

    delimiter = "%"


BEFORE = Script("""\
#!/usr/bin/env bash
# Before the first deploy of Firestate to %project. It can be run again.
set -euo pipefail
export CLOUDSDK_CORE_PROJECT=%project CLOUDSDK_CORE_DISABLE_PROMPTS=1
FUNCTIONS=firestate-functions@%project.iam.gserviceaccount.com
AGENTS=firestate-agents@%project.iam.gserviceaccount.com
there() { "$@" >/dev/null 2>&1; }
# A new account takes some seconds until it can be given a role, a new service until it answers.
again() { for _ in 1 2 3 4 5; do "$@" && return; sleep %pause; done; "$@"; }

# What the functions run on (artifactregistry, cloudbuild, cloudfunctions, compute for the account
# that builds them, run, storage), what calls them (cloudscheduler, eventarc, pubsub), what they
# keep (firestore, firebaserules), who may do what (iam, cloudresourcemanager, iamcredentials for
# agents on other machines, identitytoolkit for people).
gcloud services enable artifactregistry.googleapis.com cloudbuild.googleapis.com \\
  cloudfunctions.googleapis.com cloudresourcemanager.googleapis.com \\
  cloudscheduler.googleapis.com compute.googleapis.com eventarc.googleapis.com \\
  firebaserules.googleapis.com firestore.googleapis.com iam.googleapis.com \\
  iamcredentials.googleapis.com identitytoolkit.googleapis.com pubsub.googleapis.com \\
  run.googleapis.com storage.googleapis.com

# The database, where there is none. Its place cannot be changed later.
there gcloud firestore databases describe --database='(default)' ||
  again gcloud firestore databases create --location=%region
database=$(gcloud firestore databases describe --database='(default)' --format="value(type)")
if [ "$database" != FIRESTORE_NATIVE ]; then
  echo "The database of %project is $database: Firestate needs one in native mode." >&2
  exit 1
fi

# Agents publish to the first two topics, Pub/Sub itself to the others.
for topic in %topics %dead_letters; do
  there gcloud pubsub topics describe "$topic" || again gcloud pubsub topics create "$topic"
done

# Functions read and write Firestore, and receive events. Nothing else: no role on the project's
# other services, and no key is ever made for the account.
there gcloud iam service-accounts describe "$FUNCTIONS" ||
  gcloud iam service-accounts create firestate-functions --display-name="Firestate's functions"
for role in roles/datastore.user roles/eventarc.eventReceiver; do
  again gcloud projects add-iam-policy-binding %project --condition=None --format=none \\
    --member="serviceAccount:$FUNCTIONS" --role="$role"
done

# Agents read Firestore, and publish to two topics.
there gcloud iam service-accounts describe "$AGENTS" ||
  gcloud iam service-accounts create firestate-agents --display-name="Firestate's agents"
again gcloud projects add-iam-policy-binding %project --condition=None --format=none \\
  --member="serviceAccount:$AGENTS" --role=roles/datastore.viewer
for topic in %topics; do
  again gcloud pubsub topics add-iam-policy-binding "$topic" --format=none \\
    --member="serviceAccount:$AGENTS" --role=roles/pubsub.publisher
done

# Functions are built as the default compute account, which in newer organisations has no role.
NUMBER=$(gcloud projects describe %project --format="value(projectNumber)")
again gcloud projects add-iam-policy-binding %project --condition=None --format=none \\
  --member="serviceAccount:$NUMBER-compute@developer.gserviceaccount.com" \\
  --role=roles/cloudbuild.builds.builder
""")

AFTER = Script("""\
#!/usr/bin/env bash
# After a deploy of Firestate to %project. It can be run again.
set -euo pipefail
export CLOUDSDK_CORE_PROJECT=%project CLOUDSDK_CORE_DISABLE_PROMPTS=1
FUNCTIONS=firestate-functions@%project.iam.gserviceaccount.com
NUMBER=$(gcloud projects describe %project --format="value(projectNumber)")
PUBSUB=service-$NUMBER@gcp-sa-pubsub.iam.gserviceaccount.com

# Pub/Sub's own account publishes what its subscriptions give up.
for topic in %dead_letters; do
  gcloud pubsub topics add-iam-policy-binding "$topic" --format=none \\
    --member="serviceAccount:$PUBSUB" --role=roles/pubsub.publisher
done

# configure FUNCTION ACK_SECONDS [TOPIC]: how events come to a function.
configure() {
  # They call it as the functions' own account.
  gcloud functions add-invoker-policy-binding "$1" --region=%region --format=none \\
    --member="serviceAccount:$FUNCTIONS"
  # Its subscription, which Eventarc has named.
  trigger=$(gcloud functions describe "$1" --region=%region --format="value(eventTrigger.trigger)")
  subscription=$(gcloud eventarc triggers describe "$trigger" \\
    --format="value(transport.pubsub.subscription)")
  # No second delivery while a first is at work; waits that grow; a week (by default a day) until
  # what is not acknowledged is dropped; no end when nothing comes for a month.
  gcloud pubsub subscriptions update "$subscription" --ack-deadline="$2" \\
    --min-retry-delay=10s --max-retry-delay=600s --message-retention-duration=7d \\
    --expiration-period=never
  if [ -n "${3:-}" ]; then
    # After 100 tries, the most there can be, some 16 hours: kept as a dead letter.
    gcloud pubsub subscriptions add-iam-policy-binding "$subscription" --format=none \\
      --member="serviceAccount:$PUBSUB" --role=roles/pubsub.subscriber
    gcloud pubsub subscriptions update "$subscription" --dead-letter-topic="$3" \\
      --max-delivery-attempts=100
  fi
}
%configured
# The sweep has no events: Cloud Scheduler calls it, which the Firebase CLI has set up.

# At its first functions in a project the Firebase CLI has let the default compute account call all
# of them, and Pub/Sub's own account make tokens of every account (needed only where that one is
# older than April 2021). Where nothing else relies on it, take that back:
#
# NUMBER=$(gcloud projects describe %project --format="value(projectNumber)")
# for role in roles/run.invoker roles/eventarc.eventReceiver; do
#   gcloud projects remove-iam-policy-binding %project --condition=None --role="$role" \\
#     --member="serviceAccount:$NUMBER-compute@developer.gserviceaccount.com"
# done
# gcloud projects remove-iam-policy-binding %project --condition=None \\
#   --role=roles/iam.serviceAccountTokenCreator \\
#   --member="serviceAccount:service-$NUMBER@gcp-sa-pubsub.iam.gserviceaccount.com"
""")


def endpoints() -> dict[str, dict[str, Any]]:
    """Read functions.yaml."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(TABLE.read_text())["endpoints"]
    return found


def region() -> str:
    """Give the one region that all functions are in."""
    (found,) = {name for each in endpoints().values() for name in each["region"]}
    return str(found)


def script(when: str, project: str, *, pause_seconds: int = 5) -> str:
    """Give the script for `before` or `after` a deploy."""
    template = BEFORE if when == "before" else AFTER
    return template.substitute(
        project=project,
        region=region(),
        pause=pause_seconds,
        topics=" ".join(DEAD_LETTERS),
        dead_letters=" ".join(DEAD_LETTERS.values()),
        configured="\n".join(_configured()),
    )


def _configured() -> list[str]:
    lines = []
    for name, each in endpoints().items():
        # Who calls the sweep, on schedule, the Firebase CLI sees to.
        if trigger := each.get("eventTrigger"):
            topic = DEAD_LETTERS.get(trigger["eventFilters"].get("topic", ""), "")
            seconds = each["timeoutSeconds"] + ACK_SECONDS_MORE
            lines.append(f"configure {name} {seconds} {topic}".rstrip())
    return lines


def problem(project: str) -> str | None:
    """Say why this cannot be the id of a project in the cloud, or None if it can."""
    if not _PROJECT.fullmatch(project):
        return f"{project!r} is no id of a project, such as my-project (the id, not the number)"
    if project.startswith("demo-"):
        return f"{project} is a name for emulators, which never reach the cloud: name a real one"
    return None


def main() -> int:
    """Print the script that is asked for."""
    match sys.argv[1:]:
        case ["before" | "after" as when, project]:
            if found := problem(project):
                print(found, file=sys.stderr)
                return 2
            print(script(when, project), end="")
            return 0
        case ["-h" | "--help"]:
            print(__doc__)
            return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
