"""The JSON Schema of a workflow's input: whether it is one, and whether an input matches it.

Schemas come from callers. Nothing is fetched for them: a reference to another document is refused. Regular expressions
are matched in linear time, and the work of one check is bounded.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from functools import lru_cache
from itertools import islice
from typing import Any, TypeAlias

import cel
from jsonschema import Draft202012Validator, SchemaError, ValidationError
from jsonschema.validators import extend as _extend_untyped
from jsonschema_specifications import REGISTRY
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from stepwave._values.json import json_problem, pointer
from stepwave_server.core.model import Blob, Payload
from stepwave_server.core.validate import Violation

__all__ = ["MAX_SCHEMA_BYTES", "input_problems", "schema_problem"]

MAX_SCHEMA_BYTES = 1 << 16

MAX_PROBLEMS = 20
"""Problems of an input that are reported."""

MAX_SHOWN = 300
"""Characters of a problem that are shown. Problems quote the value."""

MAX_WORK = 500_000
"""Keywords and alternatives that one check may look at: about two seconds."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Keyword: TypeAlias = Callable[[Any, Any, Any, Any], Iterable[ValidationError] | None]


class _TooMuch(Exception):
    """Raised when a check takes too much work, or a regular expression cannot be used."""


def schema_problem(text: str) -> str:
    """Return why a text is no JSON Schema (draft 2020-12) that an input can be checked against; empty: it is one."""
    if (size := len(text.encode())) > MAX_SCHEMA_BYTES:
        return f"{size:,} bytes are more than the {MAX_SCHEMA_BYTES:,} allowed"
    return _schema_problem(text)


def input_problems(schema: str, payload: Payload) -> list[Violation]:
    """Return the problems of an input, each with its place as a JSON Pointer; empty: it matches.

    Args:
        schema: The text of the schema, which has no problem; empty: any input matches.
        payload: The input.
    """
    if not schema:
        return []
    if isinstance(payload, Blob):
        return [Violation("input", "is a blob, and `input_schema` describes JSON")]
    _work.set([0])
    try:
        errors = [*islice(_validator(schema).iter_errors(json.loads(payload)), MAX_PROBLEMS)]
    except (_TooMuch, Unresolvable, ArithmeticError) as error:
        return [Violation("input", f"cannot be checked against `input_schema`: {error}")]
    except RecursionError:
        return [Violation("input", "cannot be checked against `input_schema`: its references never end")]
    return [Violation("input", _described(error)) for error in errors]


def _described(error: ValidationError | SchemaError) -> str:
    place = pointer(error.absolute_path)
    message = f'at "{place}": {error.message}' if place else error.message
    return message if len(message) <= MAX_SHOWN else f"{message[: MAX_SHOWN - 1]}…"


@lru_cache(256)
def _schema_problem(text: str) -> str:
    if problem := json_problem(text):
        return problem
    schema = json.loads(text)
    dialect = schema.get("$schema", DIALECT) if isinstance(schema, dict) else DIALECT
    if dialect != DIALECT:
        return f'"$schema" must be "{DIALECT}" or left out'
    try:
        Draft202012Validator.check_schema(schema)
        return next(_unusable(schema), "")
    except SchemaError as error:
        return f"is no JSON Schema: {_described(error)}"
    except RecursionError:
        return "is nested too deeply"


def _unusable(schema: Any) -> Iterator[str]:
    """Yield what cannot be used: references that lead nowhere or out of the schema, and two rare keywords."""
    root = DRAFT202012.create_resource(schema)
    base = root.id() or ""
    resolver = REGISTRY.with_resource(base, root).crawl().resolver(base)
    pending = [(root, resolver)]
    while pending:
        resource, resolver = pending.pop()
        contents = resource.contents if isinstance(resource.contents, dict) else {}
        for keyword in ("$ref", "$dynamicRef"):
            if isinstance(reference := contents.get(keyword), str) and not _resolves(resolver, reference):
                yield f'nothing is at "{reference}": a reference must lead to a place in the schema itself'
        patterns = [contents["pattern"]] if "pattern" in contents else []
        for pattern in [*patterns, *contents.get("patternProperties", ())]:
            with suppress(_TooMuch):
                _matches(pattern, "")
                continue
            yield f'the regular expression "{pattern[:MAX_SHOWN]}" cannot be used: it needs more than linear time'
        if "$schema" in contents and resource is not root:
            yield '"$schema" must stand at the root'
        if {"unevaluatedProperties", "patternProperties"} <= contents.keys():
            yield '"unevaluatedProperties" cannot be used beside "patternProperties"'
        pending += [(found, resolver.in_subresource(found)) for found in resource.subresources()]


def _resolves(resolver: Any, reference: str) -> bool:
    try:
        resolver.lookup(reference)
    except Unresolvable:
        return False
    return True


_extend: Callable[..., Any] = _extend_untyped  # the library's function has no types
_work: ContextVar[list[int]] = ContextVar("work")


def _counted(keyword: Keyword) -> Keyword:
    """Return a keyword that counts the work of the check that it is part of."""

    def count(validator: Any, value: Any, instance: Any, schema: Any) -> Iterable[ValidationError] | None:
        weight = len(value) if isinstance(value, list | dict) else 0
        work = _work.get()
        work[0] += 1 + weight
        if work[0] > MAX_WORK:
            raise _TooMuch("it takes too long")
        return keyword(validator, value, instance, schema)

    return count


_MATCHES = cel.compile("text.matches(pattern)")


def _matches(pattern: str, text: str) -> bool:
    """Say whether a regular expression matches a part of a text, in linear time."""
    try:
        return bool(_MATCHES.execute({"text": text, "pattern": pattern}))
    except Exception as error:
        raise _TooMuch(f'the regular expression "{pattern[:MAX_SHOWN]}" cannot be used') from error


def _pattern(_validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not _matches(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    for pattern, schema in patterns.items() if isinstance(instance, dict) else ():
        for key in instance:
            if _matches(pattern, key):
                yield from validator.descend(instance[key], schema, path=key, schema_path=pattern)


def _additional_properties(validator: Any, rule: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    patterns = schema.get("patternProperties", {})
    extra = [key for key in instance if key not in schema.get("properties", {})]
    for key in extra:
        if any(_matches(pattern, key) for pattern in patterns):
            continue
        if rule is False:
            yield ValidationError(f"the key {key!r} is not expected")
        else:
            yield from validator.descend(instance[key], rule, path=key)


def _unique_items(_validator: Any, unique: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    """Find equal items in linear time. The library compares each pair of objects."""
    if unique and isinstance(instance, list) and len({_canonical(item) for item in instance}) < len(instance):
        yield ValidationError("its items are not all different")


def _canonical(value: Any) -> str:
    """Return a text that is equal for equal values. Numbers are equal if their values are."""
    text = json.dumps(value, sort_keys=True)
    return text if "." not in text and "e" not in text else json.dumps(_whole(value), sort_keys=True)


def _whole(value: Any) -> Any:
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_whole(item) for item in value]
        case dict():
            return {key: _whole(item) for key, item in value.items()}
    return value


_KEYWORDS: dict[str, Keyword] = {
    **Draft202012Validator.VALIDATORS,
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}
_Validator: Any = _extend(Draft202012Validator, {name: _counted(keyword) for name, keyword in _KEYWORDS.items()})


@lru_cache(64)
def _validator(text: str) -> Any:
    schema = json.loads(text)
    if isinstance(schema, dict):  # the validator would leave its class for one of this dialect
        schema.pop("$schema", None)
    return _Validator(schema, registry=REGISTRY)
