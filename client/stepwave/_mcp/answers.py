"""Results of runs as answers of tools."""

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import mcp_types as types

from stepwave._files import LoadedWorkflow
from stepwave._model.results import Failure, FailureCause, RunResult
from stepwave._values.payload import Blob, Output, dump_json
from stepwave.exceptions import InvalidWorkflow, RunLost, StepwaveError, Unsupported

__all__ = ["answer_of", "error_answer", "failed_answer"]

_MAX_FAILURES = 10
_RUN_ID = "stepwave/run_id"
"""The key of the run's id in the `_meta` of an answer."""


def answer_of(result: RunResult, only_output: str) -> types.CallToolResult:
    """Return the answer of a tool whose run has ended.

    Args:
        result: The run's result.
        only_output: The step whose output is the answer; empty: the answer has all outputs by id.
    """
    if not result.succeeded:
        return failed_answer("\n".join(_failure_lines(result)), result.run_id)
    if only_output in result.outputs:
        contents, structured = _single(result.outputs[only_output], f"{result.run_id}/{only_output}")
    else:
        contents, structured = _several(result.outputs, result.run_id)
    if left_out := result.omitted_output_count:
        text = f"{left_out} output{'s' if left_out > 1 else ''} left out: too large to send together"
        contents.append(types.TextContent(text=text))
    return types.CallToolResult(content=contents, structured_content=structured, _meta={_RUN_ID: result.run_id})


def error_answer(error: StepwaveError, workflow: LoadedWorkflow) -> types.CallToolResult:
    """Return the answer of a tool whose run was refused or lost.

    Args:
        error: The error.
        workflow: The workflow, for the places of the problems in its file.
    """
    if isinstance(error, InvalidWorkflow | Unsupported) and error.violations:
        return failed_answer("\n".join(_violation_lines(error, workflow)))
    return failed_answer(str(error), error.run_id if isinstance(error, RunLost) else "")


def failed_answer(text: str, run_id: str = "") -> types.CallToolResult:
    """Return the answer of a tool that failed.

    Args:
        text: The text for the agent.
        run_id: The id of the run; empty: there is none, or it is unknown.
    """
    meta = {_RUN_ID: run_id} if run_id else None
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=True, _meta=meta)


def _single(output: Output, name: str) -> tuple[list[types.ContentBlock], dict[str, Any] | None]:
    """Return an output as contents, and as structured content if it is an object."""
    if isinstance(output, Blob):
        return [_blob(output, name)], None
    text = output if isinstance(output, str) else dump_json(output)
    return [types.TextContent(text=text)], dict(output) if isinstance(output, Mapping) else None


def _several(outputs: Mapping[str, Output], run_id: str) -> tuple[list[types.ContentBlock], dict[str, Any]]:
    """Return outputs as contents, and as structured content by id. Blobs are contents alone."""
    values = {step_id: output for step_id, output in outputs.items() if not isinstance(output, Blob)}
    blobs = [_blob(output, f"{run_id}/{name}") for name, output in outputs.items() if isinstance(output, Blob)]
    return [types.TextContent(text=dump_json(values)), *blobs], values


def _blob(blob: Blob, name: str) -> types.ContentBlock:
    data = base64.b64encode(blob.data).decode()
    kind = blob.content_type.partition("/")[0].lower()
    if kind == "image":
        return types.ImageContent(data=data, mime_type=blob.content_type)
    if kind == "audio":
        return types.AudioContent(data=data, mime_type=blob.content_type)
    resource = types.BlobResourceContents(uri=f"stepwave:{name}", mime_type=blob.content_type, blob=data)
    return types.EmbeddedResource(resource=resource)


def _failure_lines(result: RunResult) -> Iterable[str]:
    if not result.failures:
        yield f"the run {result.run_id} was {result.state}"
    own = [it for it in result.failures if it.cause is not FailureCause.NESTED_STEP_FAILED] or list(result.failures)
    for failure in own[:_MAX_FAILURES]:
        yield _failure_line(failure)
    repeated = len(result.failures) - len(own)
    if (more := result.failure_count - repeated - len(own[:_MAX_FAILURES])) > 0:
        yield f"and {more} more"


def _failure_line(failure: Failure) -> str:
    subject = f"step {failure.step_id}" if failure.step_id else "the run"
    return f"{subject} failed: {failure.reason}: {failure.message}"


def _violation_lines(error: InvalidWorkflow | Unsupported, workflow: LoadedWorkflow) -> Iterable[str]:
    in_workflow = [it for it in error.violations if it.field == "workflow" or it.field.startswith("workflow.")]
    if in_workflow:
        yield str(workflow.locate(in_workflow))
    yield from (str(violation) for violation in error.violations if violation not in in_workflow)
    if isinstance(error, InvalidWorkflow) and error.hint:
        yield error.hint
