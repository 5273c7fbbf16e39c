"""Merging what a former holder of a session has saved after the session was taken from it.

A holder notes of each former one what it has taken along, its base: the revision, the totals of the
tasks that had ended, and a digest of each of those tasks and of each memory entry. What is late of
the former holder is merged by the difference to that:

- a task that ended since goes into the history; one that is not kept there any more is added to the
  totals; one that the holder has ended itself counts once, as the holder says
- a memory entry that is new or has changed since is taken, unless the holder has changed it as well
- a metric that the holder does not have is taken

Then the base is what was merged: the same late state once more changes nothing, a later one of the
same former holder adds what is new in it.
"""

from __future__ import annotations

import hashlib
from itertools import islice
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from firestate.agents.state.encoded_state import Part
from firestate.agents.state.history_trimming import is_open
from firestate.counters.task_counts import TaskCounts
from firestate.counters.task_history import ENDED, ended_tasks
from firestate.counters.task_totals import plain_counts, totals_of, with_tasks
from firestate.limits import MAX_CHILDREN, MAX_NAMES
from firestate.schema.ids import Identity
from firestate.schema.messages import Order
from firestate.schema.take_over import (
    ADOPTS,
    ENDED_WITH,
    MERGED_APART,
    MOST_FORMERS,
    OF_FIRESTATE,
    RESUMED_AS,
    TAKEN_ALONG,
    TAKEN_BY,
    ended_with,
    taken_along,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from firestate.agents.state.draft import Draft

    Fields = Mapping[str, Any]
    Totals = Mapping[str, Any]

_WHOLE = ("status", "current_task", "task_status", "tools_enabled")
_BY_KEY = ("memory_context", "performance_metrics", "agent_config")
_DIGEST_CHARACTERS = 10
_MOST_APART = 16
_MOST_DIGESTS = 1_000
"""Entries that a base tells apart, in 11 kB of a state; of a larger memory the others are taken."""


def with_base(fields: Fields, order: Order, writer: str, *, short: bool = False) -> dict[str, Any]:
    """Return the collaboration context of a state that is taken over, with its base.

    Args:
        fields: The state, plain, as it is taken along.
        order: Where it stands.
        writer: Who takes it over.
        short: Leave the digests of all bases out: for a state that has no room for them.
    """
    context = {k: v for k, v in fields["collaboration_context"].items() if k != ADOPTS}
    bases = _bases(context, order, fields, _under_way(fields))
    context = {**context, TAKEN_BY: writer, TAKEN_ALONG: bases}
    context = going_on(context, fields, order)
    return {**context, TAKEN_ALONG: _short(context[TAKEN_ALONG])} if short else context


def rising(context: Fields, fields: Fields, order: Order, writer: str) -> dict[str, Any]:
    """Return the collaboration context of a state that begins anew, above where it stood.

    Another folder may have taken the session from there: what both have had is known by this.

    Args:
        context: The collaboration context.
        fields: The state, plain, as it is carried over.
        order: Where that stands.
        writer: Who has it.
    """
    along = _bases(context, order, fields, _under_way(fields))
    return {**context, TAKEN_BY: writer, TAKEN_ALONG: along}


def going_on(context: Fields, fields: Fields, order: Order) -> dict[str, Any]:
    """Return the collaboration context of a session that has ended, and is saved to again.

    Where that has ended with the state of a former holder, that one's base is this state: it may
    save more, which is later than this.

    Args:
        context: The collaboration context.
        fields: The state, plain, as it had ended.
        order: Where that stands.
    """
    rest = {key: value for key, value in context.items() if key != ENDED_WITH}
    if (ended := ended_with(context, order)) is None:
        return rest
    former = Order(ended, taken_along(context)[ended])
    return {**rest, TAKEN_ALONG: _bases(context, former, fields, _under_way(fields))}


def with_short_bases(context: Fields) -> dict[str, Any]:
    """Return the collaboration context of a session that ends, with most digests left out.

    The newest former's tasks are told apart still: another one may have merged what is late of an
    older former as well, and that counts once.
    """
    if not isinstance(context.get(TAKEN_ALONG), dict):
        return dict(context)
    known = {str(epoch): context[TAKEN_ALONG][str(epoch)] for epoch in taken_along(context)}
    bases = _short(known)
    if known and "tasks" in known[newest := max(known, key=int)]:
        bases[newest]["tasks"] = known[newest]["tasks"]
    return {**context, TAKEN_ALONG: bases}


def _short(bases: Mapping[str, Fields]) -> dict[str, dict[str, Any]]:
    """Return bases without what may be long: few tasks are under way at a time."""
    kept = {"revision", "totals", "under_way"}
    return {
        epoch: {name: value for name, value in base.items() if name in kept}
        for epoch, base in bases.items()
    }


def keep_own_keys(context: Fields, former: Fields) -> dict[str, Any]:
    """Return a collaboration context that a program sets, with what is Firestate's own."""
    own = {key: former[key] for key in OF_FIRESTATE if key in former}
    return {**{key: value for key, value in context.items() if key not in OF_FIRESTATE}, **own}


def is_merged(context: Fields, order: Order) -> bool:
    """Whether a state, by its collaboration context, holds what a former holder saved as `order`.

    So it is for what is older than all former holders that are remembered.
    """
    along = taken_along(context)
    if order.epoch in along:
        return along[order.epoch] >= order.revision
    return len(along) >= MOST_FORMERS and order.epoch < min(along)


def merge_late(draft: Draft, late: Fields, order: Order, *, memory: bool = True) -> None:
    """Merge a late state of a former holder into the holder's, unless that was done.

    Args:
        draft: The holder's state under change.
        late: The late state, plain.
        order: Where the late state stands.
        memory: Whether to take memory entries as well; without, a full state has room for the rest.

    Raises:
        InvalidMessageError: The state would be too large.
    """
    context = draft["collaboration_context"]
    if is_merged(context, order):
        return
    base = _base_for(context, late, order)
    _merge_tasks(draft, late, base)
    changes: dict[str, Any] = {}
    if memory:
        changes["memory_context"] = _merged_memory(draft["memory_context"], late, base)
    changes["performance_metrics"] = {**late["performance_metrics"], **draft["performance_metrics"]}
    children = dict.fromkeys([*late["child_agent_ids"], *draft["child_agent_ids"]])
    changes["child_agent_ids"] = list(children)[-MAX_CHILDREN:]
    # What is under way there is not taken along by this.
    known = _base_in(context, order.epoch) if order.epoch in taken_along(context) else None
    bases = _bases(context, order, late, "" if known is None else known.get("under_way"))
    bases |= _newer_bases(context, late)
    newest = sorted(bases, key=int)[-MOST_FORMERS:]
    along = {epoch: bases[epoch] for epoch in newest}
    changes["collaboration_context"] = {**context, TAKEN_ALONG: along}
    draft.set(changes, whole=True)


def keep_under_way(draft: Draft, context: Fields, own: Fields, order: Order) -> None:
    """Keep the tasks that are under way in what a folder had saved of a session that it takes back.

    Those of another folder end there, if at all: they are merged once they have. What that one has
    taken along is its own: it has ended there, where it is not in the history any more.

    Args:
        draft: The session as the other folder has left it, and perhaps with what has ended here.
        context: The collaboration context with which the other folder has left it.
        own: What this one had saved of it, plain.
        order: Where that stands.
    """
    base = _base_for(context, own, order)
    # Nothing is known of it where an earlier release has noted what it took along, where there was
    # no room, or where that was long ago: it may have ended there, and is not to count twice.
    if base and "under_way" not in base:
        return
    if order.epoch not in taken_along(context) and is_merged(context, order):
        return
    known = set(str(base.get("under_way", "")).split())
    there = {_key(part.plain) for part in draft.history}
    entries = [each for each in own["task_history"] if is_open(each, own["session_id"])]
    new = [each for each in entries if _digest(*_key(each)) not in known]
    kept = [Part.of(each) for each in new if _key(each) not in there]
    if kept:
        draft.set_history([*draft.history, *kept])


def merge_apart(
    draft: Draft,
    base: Fields | None,
    own: Fields,
    name: str,
    *,
    is_base_lost: bool = False,
    memory: bool = True,
) -> None:
    """Merge a state that was saved apart from the draft's, both from one `base`; once.

    So it is with what one process has saved beside a locked file, while another one could write
    there, or has saved apart as well. What both have changed stays as it is in the draft; tasks,
    memory entries, settings and metrics are merged one by one.

    Args:
        draft: The state under change.
        base: What both have begun with, plain; None where there was nothing, or it is lost.
        own: The state to be merged, plain.
        name: What tells it from all else that was saved apart.
        is_base_lost: Whether nobody knows what both have begun with. Then what only the totals of
            `own` tell is taken to have been there.
        memory: Whether to take memory entries and settings as well (`merge_late`).

    Raises:
        InvalidMessageError: The state would be too large.
    """
    context = draft["collaboration_context"]
    if is_merged_apart(context, name):
        return
    before = base or {}
    had = _base_in_common(draft, own) if is_base_lost else {} if base is None else _base_of(base)
    _merge_tasks(draft, own, had)
    _keep_new_under_way(draft, before, own)
    changes: dict[str, Any] = {}
    for field in _WHOLE:
        if own.get(field) != before.get(field) and draft[field] == before.get(field):
            changes[field] = own.get(field)
    for field in _BY_KEY if memory else ("performance_metrics",):
        changes[field] = _changed_keys(draft[field], before.get(field) or {}, own[field])
    children = dict.fromkeys([*own["child_agent_ids"], *draft["child_agent_ids"]])
    changes["child_agent_ids"] = list(children)[-MAX_CHILDREN:]
    apart = [*_names_apart(context), *_names_apart(own["collaboration_context"]), name]
    context = {**context, MERGED_APART: list(dict.fromkeys(apart))[-_MOST_APART:]}
    if newer := _newer_bases(context, own):
        bases = {str(each): _base_in(context, each) for each in taken_along(context)} | newer
        newest = sorted(bases, key=int)[-MOST_FORMERS:]
        context[TAKEN_ALONG] = {epoch: bases[epoch] for epoch in newest}
    changes["collaboration_context"] = context
    draft.set(changes, whole=True)


def _base_in_common(draft: Draft, own: Fields) -> dict[str, Any]:
    """Return a base by which what `own` has more is what its history has more."""
    there = {_key(part.plain): _ended_at(part.plain) for part in draft.history}
    # Older ones may be there no more since the history is full: they are in the totals.
    oldest = "" if draft["task_totals"] is None else min(filter(None, there.values()), default="")
    new: list[Fields] = []
    known: list[Fields] = []
    for entry in _ended(own):
        is_new = _key(entry) not in there and _ended_at(entry) >= oldest
        (new if is_new else known).append(entry)
    before = _difference(totals_of(own), with_tasks({}, ended_tasks(new, own["session_id"])))
    return {
        "totals": _fields(before),
        "tasks": _joined(_digest(*_key(entry)) for entry in known),
    }


def _keep_new_under_way(draft: Draft, base: Fields, own: Fields) -> None:
    """Keep the tasks that were begun since a base, and are still under way: they end here."""
    known = {_key(entry) for entry in base.get("task_history", ())}
    known |= {_key(part.plain) for part in draft.history}
    entries = [each for each in own["task_history"] if is_open(each, own["session_id"])]
    if new := [Part.of(each) for each in entries if _key(each) not in known]:
        draft.set_history([*draft.history, *new])


def is_merged_apart(context: Fields, name: str) -> bool:
    """Whether a state, by its collaboration context, holds what was saved apart under a name."""
    return name in _names_apart(context)


def _names_apart(context: Fields) -> list[str]:
    found = context.get(MERGED_APART)
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def _changed_keys(there: Fields, base: Fields, own: Fields) -> dict[str, Any]:
    """Return a map with the keys that `own` has changed since `base`, and nobody else has."""
    merged = dict(there)
    for key in base.keys() | own.keys():
        if base.get(key) != own.get(key) and there.get(key) == base.get(key):
            if key in own:
                merged[key] = own[key]
            else:
                merged.pop(key, None)
    return merged


def merge_below(
    draft: Draft, stored: Fields, order: Order, writer: str, *, memory: bool = True
) -> None:
    """Put a stored state below one that has begun before that could be read.

    Args:
        draft: What has been saved since it began.
        stored: The stored state, plain.
        order: Where the stored state stands.
        writer: Who has begun the session.
        memory: Whether to keep the memory of both; else that of the stored state, where there is no
            room for more.

    Raises:
        InvalidMessageError: Both together are too large.
    """
    if draft["task_totals"] is not None or stored.get("task_totals") is not None:
        plain = {name: draft[name] for name in ("task_history", "task_totals")}
        own = totals_of(plain | {"session_id": stored["session_id"]})
        added = _difference(own, {})
        draft.set({"task_totals": _sum(totals_of(stored), added)}, checked=("task_totals",))
    changes: dict[str, Any] = {
        name: {**stored[name], **draft[name]}
        for name in ("memory_context", "performance_metrics", "agent_config")
    }
    if not memory:
        changes["memory_context"] = stored["memory_context"]
    for name, most in (("tools_enabled", MAX_NAMES), ("child_agent_ids", MAX_CHILDREN)):
        changes[name] = list(dict.fromkeys([*stored[name], *draft[name]]))[-most:]
    if draft["parent_agent_id"] is None:
        changes |= {f"parent_{name}": stored.get(f"parent_{name}") for name in Identity._fields}
    own_context = draft["collaboration_context"]
    context = with_base(stored, order, writer, short=not memory)
    context.pop(RESUMED_AS, None)
    changes["collaboration_context"] = {**own_context, **context, **_given(own_context)}
    draft.set({**changes, "created_at": stored["created_at"]}, whole=True)
    draft.set_history([*map(Part.of, stored["task_history"]), *draft.history])


def _given(context: Fields) -> dict[str, Any]:
    return {key: value for key, value in context.items() if key not in OF_FIRESTATE}


def _bases(context: Fields, order: Order, fields: Fields, under_way: str | None) -> dict[str, Any]:
    former = context.get(TAKEN_ALONG)
    known = former if isinstance(former, dict) else {}
    newest = sorted(map(str, {**taken_along(context), order.epoch: 0}), key=int)[-MOST_FORMERS:]
    base = {
        "revision": order.revision,
        **_base_of(fields),
        **({} if under_way is None else {"under_way": under_way}),
    }
    # Of the newest former alone the digests of its memory, 11 kB: a full state must have room.
    older = {
        epoch: {name: value for name, value in known[epoch].items() if name != "memory"}
        for epoch in newest
        if epoch in known
    }
    return {each: base if each == str(order.epoch) else older[each] for each in newest}


def _base_of(fields: Fields) -> dict[str, Any]:
    """Return what tells later what a state has had."""
    return {
        "totals": totals_of(fields),
        "memory": _joined(_digest(*entry) for entry in fields["memory_context"].items()),
        "tasks": _joined(_digest(*_key(entry)) for entry in _ended(fields)),
    }


def _base_for(context: Fields, late: Fields, order: Order) -> Fields:
    """Return what a holder has of a late state already.

    That is its base of the former holder. Of one that it did not know of, both have begun with what
    they have of the newest former holder that both know: the earlier of the two.
    """
    ours, theirs = taken_along(context), taken_along(late["collaboration_context"])
    if order.epoch in ours:
        return _base_in(context, order.epoch)
    both = ours.keys() & theirs.keys()
    if not both:
        return _base_in(late["collaboration_context"], max(theirs)) if theirs else {}
    newest = max(both)
    is_ours = ours[newest] < theirs[newest]
    return _base_in(context if is_ours else late["collaboration_context"], newest)


def _newer_bases(context: Fields, late: Fields) -> dict[str, Any]:
    """Return the bases of former holders of which a late state has merged more than its holder.

    Also of those that the holder does not know: what comes later of them is in the late state.
    """
    ours, theirs = taken_along(context), taken_along(late["collaboration_context"])
    newer = {
        each
        for each in theirs
        if theirs[each] > ours.get(each, -1) and (each in ours or each > min(ours, default=0))
    }
    return _short({str(each): _base_in(late["collaboration_context"], each) for each in newer})


def _base_in(context: Fields, epoch: int) -> Fields:
    found: Fields = context[TAKEN_ALONG][str(epoch)]
    return found


def _under_way(fields: Fields) -> str:
    """Return the digests of the tasks that are under way."""
    entries = (each for each in fields["task_history"] if is_open(each, fields["session_id"]))
    return _joined(_digest(*_key(entry)) for entry in entries)


def _joined(digests: Iterable[str]) -> str:
    return " ".join(islice(digests, _MOST_DIGESTS))


def _ended(fields: Fields) -> list[Any]:
    """Return the entries of the history of tasks that the session has ended itself."""
    own = fields["session_id"]
    return [entry for entry in fields["task_history"] if ended_tasks([entry], own)]


def _digest(key: str, value: Any) -> str:  # noqa: ANN401 - any JSON
    found = hashlib.sha256(to_json([key, value])).hexdigest()
    return found[:_DIGEST_CHARACTERS]


def _merged_memory(own: Fields, late: Fields, base: Fields) -> dict[str, Any]:
    before = set(str(base.get("memory", "")).split())
    merged = dict(own)
    for key, value in late["memory_context"].items():
        if _digest(key, value) in before:
            continue  # as it was: the holder may have removed it since
        if key not in own or _digest(key, own[key]) in before:
            merged[key] = value
    return merged


def _merge_tasks(draft: Draft, late: Fields, base: Fields) -> None:
    session_id = late["session_id"]
    since = _difference(totals_of(late), base.get("totals") or {})
    own = {_key(part.plain): place for place, part in enumerate(draft.history)}
    history = list(draft.history)
    before = set(str(base.get("tasks", "")).split())
    ended = [entry for entry in _ended(late) if _digest(*_key(entry)) not in before]
    # In the totals each task stands once by its kind: so many have ended since. A base that tells
    # no tasks apart leaves those that the holder has let go: of them the newest are taken.
    number = sum(one.tries + one.cancelled for one in since["kinds"].values())
    if len(ended) > number:
        unknown = [entry for entry in ended if _key(entry) not in own]
        ended = sorted(unknown, key=_ended_at)[-number:] if number else []
    taken = []
    for entry in ended:
        place = own.get(_key(entry))
        if place is None:
            history.append(Part.of({"session_id": session_id, **entry}))
            taken.append(entry)
        elif history[place].plain.get("status") not in ENDED:
            history[place] = Part.of({**history[place].plain, **entry})
            taken.append(entry)
    gone = _difference(_fields(since), with_tasks({}, ended_tasks(ended, session_id)))
    if any(one.tries or one.cancelled for one in gone["kinds"].values()):
        # Some are in the late state's totals alone: all that is added is counted there.
        plain = {
            "task_history": draft["task_history"],
            "task_totals": draft["task_totals"],
            "session_id": session_id,
        }
        totals = with_tasks(totals_of(plain), ended_tasks(taken, session_id))
        draft.set({"task_totals": _sum(totals, gone)}, checked=("task_totals",))
    draft.set_history(history)


def _key(entry: Fields) -> tuple[str, str]:
    task_id = entry.get("task_id", entry.get("id"))
    return str(task_id), str(entry.get("started_at"))


def _ended_at(entry: Fields) -> str:
    return str(entry.get("ended_at") or entry.get("completed_at") or entry.get("timestamp") or "")


def _counts(group: Fields) -> dict[str, TaskCounts]:
    return {name: TaskCounts.from_fields(fields) for name, fields in group.items()}


def _difference(later: Totals, earlier: Totals) -> dict[str, Any]:
    """Return what was added to totals; of names whose counts fell, nothing."""
    result: dict[str, Any] = {"errors": {}}
    for group in ("kinds", "tools"):
        before = _counts(earlier.get(group) or {})
        result[group] = {
            name: _minus(one, before.get(name, TaskCounts()))
            for name, one in _counts(later.get(group) or {}).items()
        }
    errors = earlier.get("errors") or {}
    for name, number in (later.get("errors") or {}).items():
        result["errors"][name] = max(0, number - errors.get(name, 0))
    return result


def _minus(later: TaskCounts, earlier: TaskCounts) -> TaskCounts:
    return TaskCounts(
        tries=max(0, later.tries - earlier.tries),
        successes=max(0, later.successes - earlier.successes),
        cancelled=max(0, later.cancelled - earlier.cancelled),
        timed=max(0, later.timed - earlier.timed),
        duration_ms=max(0, later.duration_ms - earlier.duration_ms),
        last_seen=later.last_seen,
    )


def _fields(difference: Fields) -> dict[str, Any]:
    """Return a difference in the form of totals."""
    groups = {
        group: {name: one.as_fields() for name, one in difference[group].items()}
        for group in ("kinds", "tools")
    }
    return {**groups, "errors": difference["errors"]}


def _sum(totals: Totals, added: Fields) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for group in ("kinds", "tools"):
        counts = _counts(totals.get(group) or {})
        for name, one in added[group].items():
            if one.tries or one.cancelled:
                counts[name] = counts.get(name, TaskCounts()) + one
        result[group] = {name: plain_counts(one) for name, one in counts.items()}
    errors = dict(totals.get("errors") or {})
    for name, number in added["errors"].items():
        if number:
            errors[name] = errors.get(name, 0) + number
    return result | ({"errors": errors} if errors else {})
