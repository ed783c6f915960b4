"""The evaluator of bindings: JSON Pointers over JSON text whose numbers keep their digits."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import jsonpointer
import simplejson

from stepwave_server.core.evaluate import EvaluationFailed
from stepwave_server.core.model import Binding, Blob, FromStep, Payload, Step

__all__ = ["JsonEvaluator"]


class JsonEvaluator:
    """Puts a step's input together. Values that are passed on whole are spliced as text, never parsed."""

    def input_of(self, step: Step, run_input: Payload, outputs: Mapping[str, Payload | None]) -> Payload:
        """Return what the step's action gets; see `core.evaluate.Evaluator`."""
        if step.input is None and not step.bindings:
            return _object_of(outputs)
        if not step.bindings:
            assert step.input is not None
            return step.input
        try:
            return _fill(step, run_input, outputs)
        except RecursionError as error:
            raise EvaluationFailed("the values to put together are nested too deeply") from error


def _object_of(outputs: Mapping[str, Payload | None]) -> str:
    parts = [
        f'"{step_id}":{output if isinstance(output, str) else _text(output, step_id)}'
        for step_id, output in outputs.items()
    ]
    return f"{{{','.join(parts)}}}"


def _text(output: Payload | None, step_id: str) -> str:
    if output is None:
        return "null"
    if isinstance(output, Blob):
        raise EvaluationFailed(f'the output of step "{step_id}" is a blob: bind it whole, to the target ""')
    return output


def _fill(step: Step, run_input: Payload, outputs: Mapping[str, Payload | None]) -> Payload:
    whole: Payload = "null" if step.input is None else step.input
    document: object = None
    parents = _parents(step.bindings)
    for binding in step.bindings:
        value = _value(binding, run_input, outputs)
        if not binding.target:
            whole, document = value, None
            continue
        if document is None:
            document = _parse_own(whole)
        text = _text(value, _source(binding))
        document = _put(document, binding, _load(text) if binding.target in parents else simplejson.RawJSON(text))
    return whole if document is None else _dump(document)


def _parse_own(whole: Payload) -> object:
    if isinstance(whole, Blob):
        raise EvaluationFailed("a blob has no places to bind to")
    parsed = _load(whole)
    return {} if parsed is None else parsed  # no input of its own: bindings make an object


def _parents(bindings: Sequence[Binding]) -> set[str]:
    """Return the places in which others of the targets lie."""
    targets = [binding.target for binding in bindings] if len(bindings) > 1 else []
    return {target[:place] for target in targets for place, letter in enumerate(target) if letter == "/"}


def _put(document: object, binding: Binding, value: object) -> object:
    try:
        return jsonpointer.set_pointer(document, binding.target, value, inplace=True)
    except (jsonpointer.JsonPointerException, TypeError, KeyError, IndexError) as error:
        raise EvaluationFailed(f'nothing can be put at "{binding.target}" of the input: {error}') from error


def _value(binding: Binding, run_input: Payload, outputs: Mapping[str, Payload | None]) -> Payload:
    if isinstance(binding.source, FromStep):
        source = outputs[binding.source.step_id]
        if source is None:
            return "null" if binding.default is None else binding.default
    else:
        source = run_input
    path = binding.source.path
    if not path:
        return source
    if isinstance(source, Blob):
        raise EvaluationFailed(f'{_source(binding)} is a blob: it has no "{path}"')
    try:
        found = jsonpointer.resolve_pointer(_parse(source), path)
    except jsonpointer.JsonPointerException as error:
        if binding.default is None:
            raise EvaluationFailed(f'{_source(binding)} has no "{path}": {error}') from error
        return binding.default
    if isinstance(found, jsonpointer.EndOfList):
        raise EvaluationFailed(f'{_source(binding)} has no "{path}": "-" is past the end of a list')
    return _dump(found)


@lru_cache(maxsize=64)
def _parse(text: str) -> object:
    """Parse an output that several steps may bind parts of; callers must not change what they get."""
    return _load(text)


def _load(text: str) -> object:
    """Parse JSON; numbers stay as they are written."""
    parsed: object = simplejson.loads(text, parse_float=simplejson.RawJSON, parse_int=simplejson.RawJSON)
    return parsed


def _dump(value: object) -> str:
    text: str = simplejson.dumps(value, ensure_ascii=False)
    return text


def _source(binding: Binding) -> str:
    return (
        f'the output of step "{binding.source.step_id}"' if isinstance(binding.source, FromStep) else "the run's input"
    )
