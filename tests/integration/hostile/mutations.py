"""Requests of every call, and what is made of their bytes by small changes."""

import random
from collections.abc import Iterator, Sequence

from google.protobuf.message import Message

from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1.payload_pb2 import Payload
from stepwave.v1.workflow_pb2 import Binding, Fallback, FallbackAction, ForEach, Retry, Step, StepOutput, Workflow

__all__ = ["METHODS", "ODD_TEXTS", "mutations", "samples"]

_SERVICE = pb.DESCRIPTOR.services_by_name["OrchestratorService"]

METHODS = tuple(method.name for method in _SERVICE.methods)
"""The names of all calls."""

ODD_TEXTS = (
    "",
    "\x00",
    "a\x00b",
    "\u202e\u2066",
    "e\u0301" * 50,
    "\U0001f9d1\u200d\U0001f680",
    "\ufeff",
    "\ufdfa" * 20,
    "../../etc/passwd",
    "a/b[0]",
    "'; DROP TABLE runs; --",
    "%s%n%x",
    "\r\nX: y",
    "~0~1~2",
    "x" * 5_000,
)
"""Texts that trip careless parsers: control characters, directions, combinations, paths, and lengths."""


def workflow() -> Workflow:
    """Return a workflow that uses most of the contract."""
    return Workflow(
        name="w",
        steps=[
            Step(id="a", action="core.echo", input=Payload(json='{"x": [1, {"y": 2}]}')),
            Step(
                id="b",
                action="core.echo",
                depends_on=["a"],
                bindings=[
                    Binding(target="/v", step=StepOutput(id="a", path="/x/1/y")),
                    Binding(target="/w", expression='deps["a"].output.x[0] + 1'),
                    Binding(target="/i", input="/k", default=Payload(json="null")),
                ],
                when='deps["a"].output.x[0] > 0',
                retry=Retry(max_attempts=2),
            ),
            Step(
                id="c",
                action="core.echo",
                depends_on=["a"],
                for_each=ForEach(expression='deps["a"].output.x'),
                fallback=Fallback(action=FallbackAction(action="core.echo")),
            ),
        ],
        outputs=["b"],
        labels={"team": "red"},
    )


def samples(method: str, run_id: str) -> Message:
    """Return a request of a call with all fields that it may have."""
    fields = _SERVICE.methods_by_name[method].input_type.fields_by_name
    given: dict[str, object] = {
        "workflow": workflow(),
        "run_id": run_id,
        "input": Payload(json='{"k": 1}'),
        "steps": [Step(id="d", action="core.echo")],
        "step_id": "b",
        "output": Payload(json="1"),
        "reason": "enough",
        "page_size": 5,
        "page_token": "dG9rZW4",
        "rerun_of": run_id,
        "labels": {"team": "red"},
        "workflow_name": "w",
    }
    given = {name: value for name, value in given.items() if name in fields}
    if "workflow" in given:
        given.pop("workflow_name", None)
    made: Message = getattr(pb, f"{method}Request")(**given)
    return made


def mutations(data: bytes, draw: random.Random) -> Iterator[bytes]:
    """Yield changes of an encoded message for ever."""
    while True:
        changed = bytearray(data)
        for _ in range(draw.choice((1, 1, 2, 4, 16))):
            _change(changed, data, draw)
        yield bytes(changed)


def _change(changed: bytearray, data: bytes, draw: random.Random) -> None:
    kinds: Sequence[str] = ("flip", "set", "cut", "insert", "repeat", "text", "end")
    kind, place = draw.choice(kinds), draw.randrange(len(changed) + 1)
    if kind == "flip" and place < len(changed):
        changed[place] ^= 1 << draw.randrange(8)
    elif kind == "set" and place < len(changed):
        changed[place] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
    elif kind == "cut":
        del changed[place : place + draw.randrange(1, 8)]
    elif kind == "insert":
        changed[place:place] = draw.randbytes(draw.randrange(1, 8))
    elif kind == "repeat":
        begin = draw.randrange(len(data) or 1)
        changed[place:place] = data[begin : begin + draw.randrange(1, 60)]
    elif kind == "text":
        text = draw.choice(ODD_TEXTS).encode("utf-8", "surrogatepass")
        changed[place : place + len(text)] = text
    elif kind == "end":
        del changed[place:]
