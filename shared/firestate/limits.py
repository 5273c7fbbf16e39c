"""Every limit in one place, with where it comes from.

"Firestore" is https://firebase.google.com/docs/firestore/quotas, "Pub/Sub" is
https://cloud.google.com/pubsub/quotas#resource_limits. The rest are ours, with the reason.
"""

from __future__ import annotations

from datetime import timedelta

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
"""Firestore stores integers in 64 bits, signed."""

MAX_DEPTH = 20
"""Firestore: maps and arrays nest 20 levels deep; the field's own map is the first."""

MAX_NESTING = 100
"""Ours: deeper JSON is not parsed at all. Far above 22, the deepest that is accepted, so that a map
which nests too deep for Firestore is refused by its name; far below what exhausts any stack."""

MAX_KEY_BYTES = 1_500
"""Firestore: a field name or map key takes 1,500 bytes of UTF-8."""

MAX_DOCUMENT_BYTES = 1_048_576
"""Firestore: a document takes 1 MiB, names of fields included."""

MAX_STATE_BYTES = 910_000
"""Ours: what is taken of one state. The rest of the document is for the contribution (at most
95,000 bytes, a test computes it), the digests and the order fields."""

FULL_STATE_BYTES = 900_000
"""Ours: what an agent, or a migration, may put into one state. The rest is for what ends one that a
release up to 0.1 has filled to the last byte."""

MAX_EVENT_BYTES = 900_000
"""Ours: the same for a coordination event, which needs less beside it."""

MAX_ENVELOPE_BYTES = 1_000
"""Ours: what a message holds around its state or event (order, writer, version), counted as
Firestore counts. The writer takes at most 400 of it, a test adds up the rest."""

MAX_VALUES = 100_000
"""Ours: values in one state or event, maps and arrays counted too. Google's client takes 1,500
bytes and 50 microseconds for each while it encodes a document: 900,000 nulls would be more than a
function has memory for, and would come again and again."""

MAX_MESSAGE_BYTES = 10_000_000
"""Pub/Sub: a message takes 10 MB. To parse and decide on the worst that could be found takes, above
what is there at rest, 41 MB and 1 s of CPU (accepted; 77 MB and 2 s refused), and for each MB 7
times the time of a good one (benchmarks/message_cost.py)."""

MAX_ID_BYTES = 400
"""Ours: three ids and two joints stay below Firestore's 1,500 bytes for a document id."""

MAX_LABEL_BYTES = 128
"""Ours: a task kind, tool, memory type or error type longer than this is cut before it becomes
the key of a counter."""

MAX_LABELS = 64
"""Ours: so many kinds (tools, types, ...) of one document get counters of their own; the rest
are counted under `other`. Keeps the counters' documents bounded."""

MAX_NAMES = 1_000
"""Ours: tools, children, metrics or totals of one agent. Firestore takes 40,000 index entries for a
document, and who reads a quarantine no list of a hundred thousand mistakes."""

MAX_CHILDREN = 100
"""Ours: children that an agent's state lists, the newest that have not ended. All of them are found
by a query; a list that only grew would reach its bound in an agent that lives for long."""

MAX_FIELDS = 40
"""Ours: fields of one object that has named fields; none has half as many."""

MAX_COUNT = 10**12
MAX_DURATION_SECONDS = 10**9
"""Ours: sums of these stay far below 64 bits, where Firestore's increments stop growing."""

MAX_REASON = 1_000
"""Ours: characters of the reason of an emergency stop, as firestore.rules has it: in UTF-16, where
an emoji is two."""

MAX_DECISIONS = 100
MAX_ACTIVITIES = 50
"""Newest decisions and activities that an agent's memory shows."""

MAX_ACTIVE_SESSIONS = 1_000
"""Up to here `active_sessions` is the exact list; past it, the latest 1,000 beside the count."""

STATE_LIFETIME = timedelta(days=45)
"""A terminated state or a tombstone is removed this long after it was stored."""

EVENT_LIFETIME = timedelta(days=90)
"""A coordination event is removed this long after it was stored."""

LATEST_ARRIVAL = timedelta(days=30)
"""An older message whose document is absent is too late: its document may have been removed.
Shorter than both lifetimes, so that nothing that was removed can come back."""

EARLIEST_ARRIVAL = timedelta(days=1)
"""A message that is dated further ahead than this comes from a clock that is wrong: it would stay
the latest for as long."""

SHARDS = 8
"""Shards of the system's counters: Firestore takes about one sustained write a second for a
document, so 8 shards carry about 8 counted changes a second for long, and bursts of many more."""

FOLD_INTERVAL_SECONDS = 1.0
"""`global_config` is written at most once in this time."""

LEASE_SECONDS = 120.0
"""An agent at work that was not renewed for so long is stale: its process has died."""

QUARANTINE_PART_BYTES = 900_000
"""Bytes of a refused message in one document of its parts."""

QUARANTINE_COMMIT_PARTS = 4
"""Parts of a refused message in one commit: with the document below 4 MiB, which is what the
emulator takes in one request (Firestore: 10 MiB)."""

MAX_HISTORY = 200
"""Entries of its task history that an agent's state keeps; its task_totals count the rest."""

MAX_HISTORY_BYTES = 300_000
"""Ours: bytes of a task history, as Firestore counts them, a third of a state: the rest is for what
an agent knows. Past it the notes of the oldest tasks that have ended go first, then those tasks."""

STATE_RESERVE_BYTES = 48_000
"""Ours: what an agent that learns leaves free in its state, so that what ends something always
fits: a terminated agent, a task with its error, a session that goes on as another one."""

BEGIN_RESERVE_BYTES = 24_000
"""Ours: what an agent that begins something leaves free, so that it can end it: the half of the
above. A task that has ended takes at most some 5,000 bytes, once its notes are cut."""

VALUES_RESERVE = 2_500
"""Ours: values that are kept free in the same way: what begins leaves so many, and what grows twice
as many. A task that ends adds ten or so."""

NEARLY_FULL = 0.8
"""Share of FULL_STATE_BYTES at which an agent is warned."""

MAX_NOTE_BYTES = 4_000
"""Ours: of an error's text, and of a note that cannot be kept whole."""

SNAPSHOT_INTERVAL_SECONDS = 1.0
"""Snapshots of one session go out at most so often: Firestore takes about one sustained write a
second for a document."""

STOP_UNKNOWN_AFTER_SECONDS = 60.0
"""Ours: while the controls cannot be read, what was read of the emergency stop counts so long; past
that its state is unknown. A short outage stops nobody, a long one hides no stop."""

MAX_OUTBOX_BYTES = 256_000_000
"""Ours: what an outbox may hold, unless its agent says otherwise; some 80,000 events of 3 KB."""

MAX_FILE_BYTES = 50_000_000
"""Ours: an old file that is migrated is read whole, which takes
some ten times its size in memory."""

MIGRATION_RATE = 500.0
MIGRATION_GROWTH = 1.5
MIGRATION_GROWS_AFTER_SECONDS = 300.0
"""Firestore: begin with 500 operations a second, and raise that by half every 5 minutes
(https://firebase.google.com/docs/firestore/best-practices#ramping_up_traffic)."""

MIGRATION_BATCH = 200
MIGRATION_BATCH_BYTES = 2_500_000
"""Records and bytes of one commit of a migration: below 4 MiB, which is what the emulator takes."""

LEGACY_PART_BYTES = 900_000
"""Bytes, in one document, of what an old file holds and a migrated document has no room for."""

PRICE_READS, PRICE_WRITES = 0.06, 0.18
"""US dollars for 100,000 operations in nam5, a dear region
(https://cloud.google.com/firestore/pricing)."""
