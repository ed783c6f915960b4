"""Search attributes and memos of runs, by which Temporal lists them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from re import compile as pattern
from typing import Any

from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from stepwave_server.core.info import DEFAULT_NAMESPACE, RunInfo, RunKey, info_of
from stepwave_server.core.model import State
from stepwave_server.core.state import RunState
from stepwave_server.engine.temporal.codec import WORKFLOW_TYPE, workflow_id_of
from stepwave_server.journal import Header, Listing

__all__ = [
    "INFO_MEMO",
    "LABELS",
    "NAMESPACE",
    "SEARCH_ATTRIBUTES",
    "STATE",
    "UNDER_WAY",
    "WORKFLOW",
    "attributes_of",
    "from_memo",
    "matches_none",
    "query_of",
    "run_info",
    "time_text",
    "to_memo",
]

WORKFLOW = SearchAttributeKey.for_keyword("StepwaveWorkflow")
NAMESPACE = SearchAttributeKey.for_keyword("StepwaveNamespace")
STATE = SearchAttributeKey.for_keyword("StepwaveState")
LABELS = SearchAttributeKey.for_keyword_list("StepwaveLabels")

SEARCH_ATTRIBUTES = {
    WORKFLOW.name: "Keyword",
    NAMESPACE.name: "Keyword",
    STATE.name: "Keyword",
    LABELS.name: "KeywordList",
}
"""The search attributes that the namespace must have, and their types."""

INFO_MEMO = "stepwave.run"
"""The memo with the final state of a run."""

UNDER_WAY = "running"
"""The state of a run until its workflow ends by itself."""

OTHER_LABELS = "*"
"""Stands for labels that are not in the search attribute: they are too long, or have other characters."""

MAX_LABEL = 255
MAX_LABELS = 1_800
"""Bytes of one label in the search attribute, and of all. Temporal allows 2,048, with what it adds."""

_LABEL = pattern(r"[A-Za-z0-9_.:/@+-]+=[A-Za-z0-9_.:/@+ -]*")
_NAME = pattern(r"[A-Za-z0-9_.-]*")
_UNDER_WAY_STATES = frozenset({State.PENDING, State.RUNNING})


def attributes_of(namespace: str, workflow_name: str, labels: Mapping[str, str]) -> TypedSearchAttributes:
    """Return the search attributes of a run at its start. Runs of the default namespace have no `NAMESPACE`."""
    named = [SearchAttributePair(WORKFLOW, workflow_name), SearchAttributePair(STATE, UNDER_WAY)]
    if namespace != DEFAULT_NAMESPACE:
        named.append(SearchAttributePair(NAMESPACE, namespace))
    return TypedSearchAttributes([*named, SearchAttributePair(LABELS, _indexed(labels))] if labels else named)


def _indexed(labels: Mapping[str, str]) -> Sequence[str]:
    """Return labels as the search attribute holds them."""
    found: list[str] = []
    room = MAX_LABELS
    for key, value in labels.items():
        text = f"{key}={value}"
        if _is_indexed(text) and len(text) + 4 <= room:
            found.append(text)
            room -= len(text) + 4
    return found if len(found) == len(labels) else [*found, OTHER_LABELS]


def _is_indexed(label: str) -> bool:
    return len(label) <= MAX_LABEL and _LABEL.fullmatch(label) is not None


# The final state.


def run_info(header: Header, state: RunState) -> RunInfo:
    """Return the information of a run."""
    return info_of(
        header.key,
        header.create_time,
        state,
        rerun_of=header.rerun_of,
        workflow_digest=header.workflow_digest,
        created_by=header.created_by,
    )


def to_memo(info: RunInfo) -> dict[str, Any]:
    """Return the final state of a run as a memo. Its time of acceptance is that of the workflow's start."""
    return {
        "workflow": info.workflow_name,
        "state": info.state.name.lower(),
        "labels": dict(info.labels),
        "start_time": info.start_time,
        "end_time": info.end_time,
        "counts": list(info.counts),
        "last_sequence": info.last_sequence,
        "rerun_of": info.rerun_of,
        "workflow_digest": info.workflow_digest,
        **({"created_by": info.created_by} if info.created_by else {}),
    }


def from_memo(key: RunKey, create_time: int, memo: Mapping[str, Any]) -> RunInfo:
    """Return the final state of a run from its memo."""
    return RunInfo(
        key,
        memo["workflow"],
        State[memo["state"].upper()],
        memo["labels"],
        create_time,
        memo["start_time"],
        memo["end_time"],
        tuple(memo["counts"]),
        memo["last_sequence"],
        False,
        False,
        rerun_of=memo["rerun_of"],
        workflow_digest=memo["workflow_digest"],
        created_by=memo.get("created_by", ""),
    )


# Queries.


def matches_none(listing: Listing) -> bool:
    """Return whether no run can match: no run has such an id, or such a name."""
    return not (_NAME.fullmatch(listing.prefix) and _NAME.fullmatch(listing.workflow_name))


def query_of(listing: Listing, task_queue: str) -> str:
    """Return the query for the workflows of runs that may match. Whether they do is decided when more is known."""
    terms = [f"WorkflowType = '{WORKFLOW_TYPE}'", f"TaskQueue = '{task_queue}'"]
    is_default = listing.namespace == DEFAULT_NAMESPACE
    terms.append(f"{NAMESPACE.name} IS NULL" if is_default else f"{NAMESPACE.name} = '{listing.namespace}'")
    if listing.workflow_name:
        terms.append(f"{WORKFLOW.name} = '{listing.workflow_name}'")
    if listing.prefix:
        beginning = workflow_id_of(RunKey(listing.namespace, listing.prefix))
        terms.append(f"WorkflowId STARTS_WITH '{beginning}'")
    if listing.states:
        terms.append(f"({' OR '.join(_state_terms(listing.states))})")
    for key, value in listing.labels.items():
        other = f"{LABELS.name} = '{OTHER_LABELS}'"
        label = f"{key}={value}"
        terms.append(f"({LABELS.name} = '{label}' OR {other})" if _is_indexed(label) else other)
    return " AND ".join(terms)


def _state_terms(states: Iterable[State]) -> Iterable[str]:
    """Yield the terms for states. The workflow of a run may have been ended in Temporal, which sets no state."""
    wanted = frozenset(states)
    ended = sorted(state.name.lower() for state in wanted - _UNDER_WAY_STATES)
    if ended:
        yield f"{STATE.name} IN ({', '.join(map(repr, ended))})"
    if wanted & _UNDER_WAY_STATES:
        yield f"{STATE.name} = '{UNDER_WAY}'"
    else:
        yield f"({STATE.name} = '{UNDER_WAY}' AND ExecutionStatus != 'Running')"


def time_text(nanos: int) -> str:
    """Return a time, in nanoseconds since the epoch, as a text for queries."""
    seconds, rest = divmod(nanos, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
