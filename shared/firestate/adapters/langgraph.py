"""LangGraph: a callback handler.

    handler = FirestateHandler(manager)
    graph.invoke(..., {"callbacks": [handler]})

A node is an agent, a node of a subgraph one by the name of both (`team/writer`). What a node is in
has spawned it: the graph, or the node that the subgraph is of. The session is the `thread_id` or,
without one, the run's own.

Callbacks do not tell which edge led to a node. One that follows a join comes from all that it
joins; one that a Command or Send names comes from whoever named it; any other from all nodes of
the step before which named none: two branches that run step by step beside each other, by plain
edges, look like four hand-overs.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from firestate.adapters.error_guard import log_errors
from firestate.adapters.failures import Failure
from firestate.adapters.recorder import Recorder
from firestate.extras import required_extra

with required_extra("langgraph", __name__):
    from langchain_core.callbacks import BaseCallbackHandler
    from langgraph.errors import GraphBubbleUp, GraphInterrupt, ParentCommand
    from langgraph.types import Command, Send

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from uuid import UUID

    from firestate.adapters.agent_run import AgentRun, Session
    from firestate.agents.manager import StateManager

    Metadata = Mapping[str, Any]


_PREGEL = "langgraph.pregel"
"""The package whose functions run a graph."""


@dataclass(eq=False)
class _Step:
    """A run of LangChain: of a graph, of a node, or of anything in one."""

    session: Session
    above: _Step | None
    run: AgentRun | None = None
    node: str = ""
    number: int = 0
    names: set[str] = field(default_factory=set)
    """Of a node: whom it has named to go on, by Command or Send."""
    before: list[_Step] = field(default_factory=list)
    """Of a graph: the nodes that have run, as far as others may still follow them."""

    def agents(self) -> list[AgentRun]:
        """Give the runs of agents from here on upwards."""
        runs, each = [], self if self.run is not None else self.above
        while each is not None:
            if each.run is not None:
                runs.append(each.run)
            each = each.above
        return runs


class FirestateHandler(BaseCallbackHandler):
    """Records the nodes of graphs: give it among the `callbacks`."""

    raise_error = True  # of all that is raised here, EmergencyStopError alone gets so far
    run_inline = True  # in the order in which things happen

    def __init__(self, manager: StateManager, session_id: str | None = None) -> None:
        """Record through `manager`; a session that is named here takes the threads' place."""
        self._recorder = Recorder(manager, session_id, framework="langgraph")
        self.error_log = self._recorder.error_log
        self._steps: dict[UUID, _Step] = {}

    @log_errors
    def on_chain_start(
        self,
        /,
        serialized: dict[str, Any],
        inputs: object,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: object,
    ) -> None:
        """Begin a run of an agent, if it is a graph or a node that begins."""
        known = metadata or {}
        with self._recorder.lock:
            above = self._above(parent_run_id)
            if above is None:
                session = self._recorder.session(_thread_of(known), own=str(run_id))
                step = _Step(session, None)
                step.run = self._recorder.begin(session, str(kwargs.get("name") or "LangGraph"))
            else:
                step = _Step(above.session, above)
                if any(tag.startswith("graph:step:") for tag in tags or ()):
                    self._begin(step, above, known)
            self._steps[run_id] = step

    @log_errors
    def on_chain_end(self, /, outputs: object, *, run_id: UUID, **kwargs: object) -> None:
        """End its run."""
        self._end(run_id, None, set(_named(outputs)))

    @log_errors
    def on_chain_error(self, /, error: BaseException, *, run_id: UUID, **kwargs: object) -> None:
        """End its run, as failed unless it only waits for people or jumps out of its graph."""
        if isinstance(error, ParentCommand):
            self._end(run_id, None, set(_named(error.args[0])))
        else:
            self._end(run_id, None if isinstance(error, GraphBubbleUp) else error, set())

    @log_errors
    def on_tool_start(
        self,
        /,
        serialized: dict[str, Any] | None,
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: object,
    ) -> None:
        """Put a tool's call into the history of the node that it is in."""
        with self._recorder.lock:
            above = self._above(parent_run_id)
            if above is not None:  # else outside of any graph
                name = str((serialized or {}).get("name") or kwargs.get("name") or "tool")
                above.agents()[0].begin_tool(str(run_id), name)
                self._steps[run_id] = _Step(above.session, above)

    @log_errors
    def on_tool_end(self, /, output: object, *, run_id: UUID, **kwargs: object) -> None:
        """Say that it has given its result."""
        self._end_tool(run_id, None)

    @log_errors
    def on_tool_error(self, /, error: BaseException, *, run_id: UUID, **kwargs: object) -> None:
        """Say that it has failed."""
        if isinstance(error, GraphInterrupt):  # it will be called again
            self._end_tool(run_id, Failure("GraphInterrupt", "waits for people", cancelled=True))
        else:
            self._end_tool(run_id, None if isinstance(error, GraphBubbleUp) else error)

    def _above(self, run_id: UUID | None) -> _Step | None:
        return None if run_id is None else self._steps.get(run_id)

    def _begin(self, step: _Step, graph: _Step, metadata: Metadata) -> None:
        over = [run.name for run in step.agents()]
        # All but the outermost are nodes: the graph itself gives its nodes no name.
        within = f"{over[0]}/" if len(over) > 1 else ""
        step.node, step.number = metadata["langgraph_node"], metadata["langgraph_step"]
        sources = _sources(graph.before, step, metadata["langgraph_triggers"])
        step.run = self._recorder.begin(
            step.session,
            f"{within}{step.node}",
            parents=over,
            sources=[f"{within}{each}" for each in sources],
        )
        # Of a loop's rounds only the last can be followed.
        former = [e for e in graph.before if e.node != step.node or e.number >= step.number - 1]
        graph.before = [*former, step]

    def _end(self, run_id: UUID, error: BaseException | None, names: set[str]) -> None:
        with self._recorder.lock:
            step = self._steps.pop(run_id, None)
            if step is None:
                return
            if step.run is None:
                if step.above is not None:  # the function of a conditional edge names by Send
                    step.above.names |= names
                return
            step.names |= names
            if error is None:
                step.run.end()
            else:
                step.run.fail(error)
            if step.above is None:
                self._recorder.close(step.session)

    def _end_tool(self, run_id: UUID, error: BaseException | Failure | None) -> None:
        with self._recorder.lock:
            step = self._steps.pop(run_id, None)
            if step is not None:
                step.agents()[0].end_tool(str(run_id), error)


def _thread_of(metadata: Metadata) -> object:
    """Return the `thread_id` of the graph that begins, whatever it is; None where it has none.

    LangGraph puts it into the metadata unless it is 0 or the empty text, which its checkpointers
    take for ids all the same. Nothing else that a callback is given tells of these, so that the
    configuration of the call is looked for among the callers.
    """
    if (told := metadata.get("thread_id")) is not None:
        return told
    frame = inspect.currentframe()
    while frame is not None:
        config = frame.f_locals.get("config")
        if frame.f_globals.get("__name__", "").startswith(_PREGEL) and isinstance(config, dict):
            return config.get("configurable", {}).get("thread_id")
        frame = frame.f_back
    return None


def _named(outputs: object) -> Iterator[str]:
    """Give the nodes that a Command or Send names, alone or among others."""
    if isinstance(outputs, Send):
        yield outputs.node
    elif isinstance(outputs, Command):
        goto = outputs.goto if isinstance(outputs.goto, list | tuple) else [outputs.goto]
        for each in goto:
            yield each.node if isinstance(each, Send) else each
    elif isinstance(outputs, list | tuple):
        for each in outputs:
            yield from _named(each)


def _sources(before: Sequence[_Step], step: _Step, triggers: Sequence[str]) -> list[str]:
    last = [each for each in before if each.number == step.number - 1]
    ran, just = {each.node for each in before}, {each.node for each in last}
    for trigger in triggers:  # all that could set it off, as `join:a+b:c`
        kind, _, rest = trigger.partition(":")
        joined = set(rest.rpartition(":")[0].split("+"))
        if kind == "join" and joined & just and joined <= ran:
            return sorted(joined)
    named = {each.node for each in last if step.node in each.names}
    return sorted(named or {each.node for each in last if not each.names} or just)
