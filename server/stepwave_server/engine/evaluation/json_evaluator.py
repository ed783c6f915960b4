"""The evaluator of bindings, conditions and lists, on JSON text. Numbers that are passed on keep their digits."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

import jsonpointer
import simplejson

from stepwave_server.core.inputs import EvaluationFailed, Values
from stepwave_server.core.model import (
    MAX_ITEMS,
    Binding,
    BindingSource,
    Blob,
    ForEach,
    FromExpression,
    FromInput,
    FromItem,
    FromSecret,
    FromStep,
    Payload,
    Reason,
    Step,
    payload_size,
    secret_mark,
)
from stepwave_server.wire.json_text import dump_text, load_text
from stepwave_server.wire.workflows.input_schema import TookTooLong, nested_input_problems

from .expressions import SyntaxProblem, ValueMissing, compile_expression
from .operations import named

__all__ = ["JsonEvaluator", "with_texts"]


MAX_PARSED = 4
"""Parsed outputs that are cached during a decision. A parsed output takes about fifty times the memory of its text."""

MAX_PROBLEMS = 5
"""Problems of an input that a failure shows."""

MAX_SHOWN = 100
"""Characters of a condition that a failure shows."""

Source: TypeAlias = BindingSource | Payload

MAX_KEY = 256
"""Maximum length of a concurrency key in characters. A longer key is replaced by its hash."""


class JsonEvaluator:
    """Builds the inputs of steps. A value that is bound whole is inserted as text, without parsing.

    Args:
        max_bytes: Maximum size of an input in bytes, for runs that record no bound.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parse = lru_cache(MAX_PARSED)(load_text)  # cached: the result must not be modified

    def input_of(self, step: Step, values: Values, max_bytes: int | None = None) -> Payload:
        """Return the input of a step; see `core.inputs.Evaluator`."""
        bound = self._max_bytes if max_bytes is None else max_bytes
        if step.input is None and not step.bindings:
            return _object_of(values.outputs, bound)
        if not step.bindings:
            assert step.input is not None
            return step.input
        try:
            return self._fill(step, values, bound)
        except RecursionError as error:
            raise EvaluationFailed("the values to put together are nested too deeply") from error

    def key_of(self, payload: Payload, pointer: str) -> str:
        """Return the concurrency key for the value at a pointer into an input; empty: there is no value, or `null`.

        Equal values have equal keys. Numbers are equal if their digits are. The order of an object's keys does not
        matter.
        """
        if isinstance(payload, Blob):
            return ""
        try:
            found = jsonpointer.resolve_pointer(self._parse(payload), pointer)
        except (jsonpointer.JsonPointerException, RecursionError):
            return ""
        if found is None or isinstance(found, jsonpointer.EndOfList):
            return ""
        text = dump_text(found, sort_keys=True)
        return text if len(text) <= MAX_KEY else hashlib.sha256(text.encode()).hexdigest()

    def check_input(self, schema: str, payload: Payload) -> None:
        """Check the input of a nested workflow; see `core.inputs.Evaluator`."""
        try:
            problems = nested_input_problems(schema, payload)
        except TookTooLong:
            message = "its input is too large, or its workflow's input schema too long, for a check"
            raise EvaluationFailed(message, Reason.RESOURCE_EXHAUSTED) from None
        if problems:
            raise EvaluationFailed(f"its workflow refuses its input: {'; '.join(problems[:MAX_PROBLEMS])}")

    def forget(self) -> None:
        """Clear the cache of parsed outputs."""
        self._parse.cache_clear()

    def condition(self, expression: str, values: Values) -> bool:
        """Return the value of a condition; see `core.inputs.Evaluator`."""
        value = self._evaluate(expression, values)
        if not isinstance(value, bool):
            shown = expression if len(expression) <= MAX_SHOWN else f"{expression[: MAX_SHOWN - 1]}…"
            raise EvaluationFailed(f"the condition `{shown}` is {named(value)}, and must be a bool")
        return value

    def items(self, for_each: ForEach, values: Values) -> list[Payload]:
        """Return the items of a list, as JSON texts; see `core.inputs.Evaluator`."""
        source = for_each.source
        if isinstance(source, FromExpression):
            found = self._evaluate(source.text, values)
        else:
            payload = self._list_of(source, values)
            what = _source(source)
            if isinstance(payload, Blob):
                raise EvaluationFailed(f"{what} is a blob, and must be a list")
            try:
                found = self._parse(payload)
            except RecursionError as error:
                raise EvaluationFailed(f"{what} is nested too deeply") from error
        if not isinstance(found, list):
            raise EvaluationFailed(f"{_source(source)} is {named(found)}, and must be a list")
        if len(found) > MAX_ITEMS:
            raise EvaluationFailed(f"a list of {len(found):,} items, and {MAX_ITEMS:,} are allowed")
        texts = [dump_text(item) for item in found]
        if isinstance(source, FromExpression) and (size := sum(map(len, texts))) > self._max_bytes:
            message = f"its list would have {size:,} bytes or more, and {self._max_bytes:,} are allowed"
            raise EvaluationFailed(message, Reason.RESOURCE_EXHAUSTED)
        return [*texts]

    def _list_of(self, source: FromStep | FromInput | Payload, values: Values) -> Payload:
        match source:
            case FromStep(step_id, path):
                output = values.outputs[step_id]
                if output is None:
                    raise EvaluationFailed(f"{_source(source)} is no list: the step did not succeed")
                return self._part(source, output, path)
            case FromInput(path):
                return self._part(source, values.input, path)
        return source

    def _evaluate(self, text: str, values: Values) -> object:
        try:
            return compile_expression(text).evaluate(values, self._parse)
        except SyntaxProblem as problem:  # the submission was checked by a version that accepted it
            raise EvaluationFailed(f"the expression cannot be evaluated: {problem}") from problem

    def _fill(self, step: Step, values: Values, bound: int) -> Payload:
        whole: Payload = "null" if step.input is None else step.input
        document: object = None
        parents = _parents(step.bindings)
        size = 0
        for binding in step.bindings:
            value = self._value(binding, values)
            if not binding.target:
                if isinstance(binding.source, FromExpression):
                    _check(payload_size(value), bound)
                whole, document, size = value, None, 0
                continue
            if document is None:
                document = _parse_own(whole)
                size = len(whole) if isinstance(whole, str) else 0
            text = _text(value, _source(binding.source))
            size += len(text)
            _check(size, bound)
            part = load_text(text) if binding.target in parents else simplejson.RawJSON(text)
            document = _put(document, binding.target, part)
        return whole if document is None else dump_text(document)

    def _value(self, binding: Binding, values: Values) -> Payload:
        source = binding.source
        if isinstance(source, FromStep) and values.outputs[source.step_id] is None:
            return "null" if binding.default is None else binding.default
        try:
            return self._payload_of(source, values)
        except (_NoValue, ValueMissing):
            if binding.default is None:
                raise
            return binding.default

    def _payload_of(self, source: BindingSource, values: Values) -> Payload:
        match source:
            case FromStep(step_id, path):
                return self._part(source, values.outputs[step_id] or "null", path)
            case FromInput(path):
                return self._part(source, values.input, path)
            case FromItem(path):
                if values.item is None:
                    raise EvaluationFailed("there is no item here")
                return self._part(source, values.item, path)
            case FromExpression(text):
                return dump_text(self._evaluate(text, values))
            case FromSecret(name):
                return dump_text(secret_mark(name))

    def _part(self, source: Source, payload: Payload, path: str) -> Payload:
        """Return the part of a value at a path."""
        if not path:
            return payload
        if isinstance(payload, Blob):
            raise EvaluationFailed(f'{_source(source)} is a blob: it has no "{path}"')
        try:
            found = jsonpointer.resolve_pointer(self._parse(payload), path)
        except jsonpointer.JsonPointerException as error:
            raise _NoValue(f'{_source(source)} has no "{path}"') from error
        if isinstance(found, jsonpointer.EndOfList):
            raise EvaluationFailed(f'{_source(source)} has no "{path}": "-" is past the end of a list')
        return dump_text(found)


def with_texts(payload: Payload, texts: Mapping[str, str]) -> Payload:
    """Return an input with texts in place of the values at JSON Pointers.

    Args:
        payload: The input.
        texts: The texts, by pointers to values that the input has.
    """
    if "" in texts:
        return dump_text(texts[""])
    document = _parse_own(payload)
    for pointer, text in texts.items():
        document = _put(document, pointer, text)
    return dump_text(document)


class _NoValue(EvaluationFailed):
    """Raised when nothing is at a path. A default replaces the value."""


def _object_of(outputs: Mapping[str, Payload | None], bound: int) -> str:
    size = 0
    for output in outputs.values():
        size += len(output) if isinstance(output, str) else 0
    _check(size, bound)
    parts = [
        f'"{step_id}":{output if isinstance(output, str) else _text(output, _source(FromStep(step_id)))}'
        for step_id, output in outputs.items()
    ]
    return f"{{{','.join(parts)}}}"


def _check(size: int, bound: int) -> None:
    if size > bound:
        message = f"its input would have {size:,} bytes or more, and {bound:,} are allowed"
        raise EvaluationFailed(message, Reason.RESOURCE_EXHAUSTED)


def _text(output: Payload | None, what: str) -> str:
    if output is None:
        return "null"
    if isinstance(output, Blob):
        raise EvaluationFailed(f'{what} is a blob: bind it whole, to the target ""')
    return output


def _parse_own(whole: Payload) -> object:
    if isinstance(whole, Blob):
        raise EvaluationFailed("a blob has no places to bind to")
    if whole == "null":  # without an input, bindings build an object
        return {}
    parsed = load_text(whole)
    return {} if parsed is None else parsed


def _parents(bindings: Sequence[Binding]) -> set[str]:
    """Return the pointers that are parents of a target."""
    targets = [binding.target for binding in bindings] if len(bindings) > 1 else []
    return {target[:place] for target in targets for place, letter in enumerate(target) if letter == "/"}


def _put(document: object, target: str, value: object) -> object:
    key = target[1:]
    if isinstance(document, dict) and "/" not in key and "~" not in key:  # as most targets
        document[key] = value
        return document
    try:
        return jsonpointer.set_pointer(document, target, value, inplace=True)
    except (jsonpointer.JsonPointerException, TypeError, KeyError, IndexError) as error:
        raise EvaluationFailed(f'nothing can be put at "{target}" of the input') from error


def _source(source: Source) -> str:
    match source:
        case FromStep(step_id, _):
            return f'the output of step "{step_id}"'
        case FromInput():
            return "the run's input"
        case FromItem():
            return "the item"
        case FromExpression():
            return "the expression"
        case FromSecret(name):
            return f"the secret {name}"
        case _:
            return "`items`"
