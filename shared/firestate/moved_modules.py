"""Modules by their former names: they can still be imported, with a DeprecationWarning.

The former name is the very same module, so that what is set in one is set in the other. Only
`firestate/__init__` uses this, where an import has found nothing.
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

PACKAGE = "firestate."
NEW_NAMES = {
    "adapters.held": "adapters.agent_handle",
    "adapters.quiet": "adapters.error_guard",
    "adapters.run": "adapters.agent_run",
    "agents.answers": "agents.reading.answers",
    "agents.carrying": "agents.state.carry_over",
    "agents.changes": "agents.state.changes",
    "agents.channels": "agents.backends.grpc_channels",
    "agents.cloud": "agents.backends.cloud",
    "agents.cloud_watch": "agents.backends.listen_stream",
    "agents.desk": "agents.submitter",
    "agents.engines": "agents.backends.backend",
    "agents.errands": "agents.reading.background_reads",
    "agents.fields": "agents.state.encoded_state",
    "agents.history": "agents.state.history_trimming",
    "agents.keeping": "agents.agent",
    "agents.learned": "agents.reading.experience",
    "agents.lookups": "agents.reading.state_queries",
    "agents.messages": "agents.state.message_encoding",
    "agents.office": "agents.runtime",
    "agents.overlay": "agents.reading.read_your_writes",
    "agents.partners": "agents.agent",
    "agents.rates": "agents.reading.success_rates",
    "agents.reader": "agents.reading.store_reader",
    "agents.roster": "agents.registry",
    "agents.sessions": "agents.manager",
    "agents.tasks": "agents.agent",
    "agents.values": "agents.state.json_values",
    "agents.watch": "agents.backends.document_watch",
    "audit.comparing": "audit.differences",
    "audit.fates": "audit.message_outcomes",
    "cli.emergency": "cli.emergency_stop",
    "cli.json_lines": "cli.json_locations",
    "cli.live": "cli.watch_view",
    "cli.looks": "cli.watch_polling",
    "cli.message_view": "cli.quarantine_message_view",
    "cli.migration_view": "cli.migrate_view",
    "cli.quarantine": "cli.quarantine_commands",
    "cli.quarantine_choice": "cli.quarantine_selection",
    "cli.safe_text": "cli.terminal_text",
    "cli.stored": "cli.read_documents",
    "cli.views": "cli.read_commands",
    "counters.events": "counters.event_counts",
    "counters.tasks": "counters.task_history",
    "counters.totals": "counters.shard_totals",
    "derive.agent_events": "derive.memory_events",
    "derive.groups": "derive.label_groups",
    "derive.newest": "derive.newest_entries",
    "derive.rows": "derive.memory_rows",
    "ingest.quarantine": "ingest.refusal",
    "migration.applying": "migration.apply.apply_plan",
    "migration.buckets": "migration.sources.bucket",
    "migration.building": "migration.plan.message_builder",
    "migration.committing": "migration.apply.commit_batch",
    "migration.comparing": "migration.verify.comparison",
    "migration.controls": "migration.apply.merge_controls",
    "migration.deciding": "migration.apply.record_decision",
    "migration.decoding": "migration.formats.decoding",
    "migration.engine_file": "migration.sources.engine_file",
    "migration.finding": "migration.apply.find_stored",
    "migration.fitting": "migration.plan.schema_fitting",
    "migration.index": "migration.plan.plan_index",
    "migration.migration": "migration.plan_store",
    "migration.opening": "migration.formats.detection",
    "migration.planning": "migration.plan.make_plan",
    "migration.readers": "migration.formats.readers",
    "migration.receipts": "migration.verify.receipts",
    "migration.records": "migration.formats.records",
    "migration.report": "migration.plan.plan_report",
    "migration.requests": "migration.http_function",
    "migration.secrecy": "migration.formats.secret_fields",
    "migration.tally": "migration.apply.progress",
    "migration.target": "migration.apply.target",
    "migration.throttle": "migration.apply.throttle",
    "migration.undoing": "migration.verify.undo",
    "migration.verifying": "migration.verify.verify_plan",
    "migration.walking": "migration.plan.plan_reader",
    "migration.words": "migration.formats.synonyms",
    "migration.work": "migration.workdir",
    "outbox.lock": "outbox.sender_lock",
    "outbox.messages": "outbox.entries",
    "outbox.opening": "outbox.open",
    "outbox.rounds": "outbox.batching",
    "outbox.sqlite": "outbox.sql",
    "outbox.standing": "outbox.status",
    "people": "auth",
    "people.roles": "auth.role_claims",
    "pipeline.contention": "pipeline.retry",
    "pipeline.controls": "operations.operator_controls",
    "pipeline.full_shards": "pipeline.shard_overflow",
    "pipeline.quarantined": "operations.quarantined_messages",
    "pipeline.rederive": "operations.rederive",
    "pipeline.uncount_events": "operations.uncount_events",
    "replay.quarantined": "operations.republish_quarantined",
    "replay.sources": "replay.message_files",
    "replay.transcripts": "replay.transcript_messages",
    "schema.documents": "schema.serialization",
    "schema.fields": "schema.field_types",
    "schema.names": "schema.sanitize",
    "schema.quarantined": "schema.quarantine_document",
    "schema.reading": "schema.strict_json",
    "stores.look_up": "lookup",
}


class MovedModules:
    """Finds a module by its former name, and loads the one that it is now."""

    @staticmethod
    def find_spec(
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG004 - the protocol of finders
        target: ModuleType | None = None,  # noqa: ARG004 - the same
    ) -> ModuleSpec | None:
        """Return how to load the module `name` if it has moved; None leaves it to others."""
        if name.removeprefix(PACKAGE) in NEW_NAMES and name.startswith(PACKAGE):
            return ModuleSpec(name, MovedModules, is_package=True)  # type: ignore[arg-type] # a loader
        return None

    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        """Leave the making to the import system; `exec_module` puts the other in its place."""

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        """Import the module by its new name, and put it in the place of `module`."""
        former = module.__name__
        new = PACKAGE + NEW_NAMES[former.removeprefix(PACKAGE)]
        # Straight below the caller's import statement are the frames of the import system alone.
        warnings.warn(f"{former} is now {new}", DeprecationWarning, stacklevel=2)
        sys.modules[former] = import_module(new)
