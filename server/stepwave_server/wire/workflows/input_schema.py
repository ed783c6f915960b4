"""Checks a run's input against the JSON Schema (draft 2020-12) of its workflow.

Schemas and inputs come from callers, so every check is bounded. References to other schemas are never fetched. Regular
expressions take linear time: they are those of Rust, by the package `cel`. A check takes at most `MAX_TIME`, or does at
most `MAX_WORK`: the scheduler makes its decisions again, so the same check must end in the same way.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from itertools import islice
from typing import Any, TypeAlias

import cel
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import extend
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from stepwave._values.json import json_problem, pointer
from stepwave_server.core.model import Blob, Payload

__all__ = ["TookTooLong", "input_problems", "nested_input_problems", "schema_errors", "schema_problem"]

MAX_SCHEMA_BYTES = 64 * 1024
"""Bytes of a schema."""

MAX_TIME = 3.0
"""Seconds of processor time for a check. Callers check on a thread, so that the event loop goes on."""

MAX_WORK = 50_000
"""Work of the check of a nested workflow's input, in keywords: about 0.2 seconds. It is made on the event loop."""

MAX_PROBLEMS = 20
"""Problems of an input that are listed."""

MAX_TEXT = 200
"""Characters of a place, and of a description."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"
NO_BLOB = "input: must be JSON: the workflow has an input schema"
UNSUPPORTED = frozenset({"unevaluatedItems", "unevaluatedProperties"})
"""Keywords that are refused: the validator takes quadratic time for them."""

_MATCHES = cel.compile("text.matches(pattern)")
_spend: ContextVar[Callable[[int], None]] = ContextVar("_spend")

# The validator's types are not generic: schemas, instances and the values of keywords can be any JSON.
_Keyword: TypeAlias = Callable[[Any, Any, Any, Any], Iterable[ValidationError] | None]


class _Refused(Exception):
    """Raised when a schema cannot be used; the message says why."""


class TookTooLong(Exception):
    """Raised when a check exceeds its bound."""


def schema_problem(text: str) -> str:
    """Return why the text of a schema is refused; empty: it is accepted. An empty text is accepted."""
    if not text:
        return ""
    size = len(text.encode())
    if size > MAX_SCHEMA_BYTES:
        return f"{size:,} bytes are more than the {MAX_SCHEMA_BYTES:,} allowed"
    return _compiled(text)[1]


def input_problems(schema: str, payload: Payload) -> list[str]:
    """Return why an input does not match a schema, with the places; empty: it matches.

    Args:
        schema: The text of a schema that `schema_problem` accepts. Empty: any input.
        payload: The input, a valid payload.
    """
    if not schema:
        return []
    if isinstance(payload, Blob):
        return [NO_BLOB]
    validator, _ = _compiled(schema)
    if validator is None:
        return []
    try:
        with _bounded(_timer()):
            return _problems(validator, payload)
    except TookTooLong:
        return [f"input: the check against the workflow's input schema took longer than {MAX_TIME:g} s"]


def schema_errors(schema: str, value: object) -> list[ValidationError]:
    """Return the first errors of a JSON value by a schema.

    Args:
        schema: The text of a schema that `schema_problem` accepts.
        value: The value, as `json.loads` returns it.

    Raises:
        TookTooLong: The check took longer than `MAX_TIME`.
        RecursionError: The value is nested too deeply, or the schema's references never end.
    """
    with _bounded(_timer()):
        return list(islice(_validator(schema).iter_errors(value), MAX_PROBLEMS))


def nested_input_problems(schema: str, payload: Payload) -> list[str]:
    """Return why an input does not match a schema. Equal arguments lead to equal results; see `input_problems`.

    Raises:
        TookTooLong: The check would be more than `MAX_WORK`.
    """
    if not schema:
        return []
    if isinstance(payload, Blob):
        return [NO_BLOB]
    with _bounded(_counter()):
        return _problems(_validator(schema), payload)


def _problems(validator: Draft202012Validator, payload: str) -> list[str]:
    try:
        errors = list(islice(validator.iter_errors(json.loads(payload)), MAX_PROBLEMS + 1))
    except RecursionError:
        return ["input: is nested too deeply for the workflow's input schema, or the schema's references never end"]
    problems = [_problem(error) for error in errors[:MAX_PROBLEMS]]
    return [*problems, "input: there are more problems"] if len(errors) > MAX_PROBLEMS else problems


def _problem(error: ValidationError) -> str:
    return _clean(f"{_shortened(f'input{pointer(error.absolute_path)}')}: {_shortened(error.message)}")


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


def _clean(text: str) -> str:
    """Return a text without halves of surrogate pairs, which JSON can have and UTF-8 cannot."""
    return text.encode(errors="replace").decode()


@lru_cache(64)
def _compiled(text: str) -> tuple[Draft202012Validator | None, str]:
    """Return the validator of a schema, or `None` and why the schema is refused."""
    if problem := json_problem(text):
        return None, problem
    schema = json.loads(text)
    try:
        with _bounded(_timer()):
            _check(schema)
    except _Refused as error:
        return None, _clean(str(error))
    except TookTooLong:
        return None, f"the check of the schema took longer than {MAX_TIME:g} s"
    except RecursionError:
        return None, "is nested too deeply"
    return _validator(text), ""


@lru_cache(64)
def _validator(text: str) -> Draft202012Validator:
    """Return the validator of a schema that was accepted before."""
    return _Validator(json.loads(text), registry=Registry())


def _check(schema: Any) -> None:
    """Check a schema.

    Raises:
        _Refused: It is no schema of the dialect, or one that cannot be checked in bounded time.
    """
    if isinstance(schema, Mapping) and str(schema.get("$schema", DIALECT)).rstrip("#") != DIALECT:
        raise _Refused(f"must be of draft 2020-12, which `$schema` names {DIALECT}")
    error = best_match(_Validator(_Validator.META_SCHEMA).iter_errors(schema))
    if error is not None:
        place = pointer(error.absolute_path)
        raise _Refused(f"is no JSON Schema: {f'{_shortened(place)}: ' if place else ''}{_shortened(error.message)}")
    resource: Resource[Any] = DRAFT202012.create_resource(schema)
    root = Registry().with_resource("", resource).resolver_with_root(resource)
    _check_subschemas(schema, root)


def _check_subschemas(schema: Any, resolver: Any) -> None:
    _spend.get()(1)
    if not isinstance(schema, Mapping):
        return
    resolver = resolver.in_subresource(DRAFT202012.create_resource(schema))
    if found := UNSUPPORTED & schema.keys():
        raise _Refused(f"`{min(found)}` is not supported; use `additionalProperties` or `items`")
    for keyword in ("$ref", "$dynamicRef"):
        if keyword in schema:
            _check_reference(schema[keyword], resolver)
    for pattern in [*([schema["pattern"]] if "pattern" in schema else []), *schema.get("patternProperties", {})]:
        _matches(pattern, "")
    for subschema in DRAFT202012.subresources_of(schema):
        _check_subschemas(subschema, resolver)


def _check_reference(reference: str, resolver: Any) -> None:
    try:
        resolver.lookup(reference)
    except Unresolvable as error:
        raise _Refused(f"the reference {reference!r} leads nowhere in this schema; no other is fetched") from error


@contextmanager
def _bounded(spend: Callable[[int], None]) -> Iterator[None]:
    """Bound the check inside."""
    token = _spend.set(spend)
    try:
        yield
    finally:
        _spend.reset(token)


def _timer() -> Callable[[int], None]:
    """Return a bound by time."""
    deadline = time.thread_time() + MAX_TIME

    def spend(work: int) -> None:
        if time.thread_time() > deadline:
            raise TookTooLong

    return spend


def _counter() -> Callable[[int], None]:
    """Return a bound by work, which does not depend on the machine."""
    left = MAX_WORK

    def spend(work: int) -> None:
        nonlocal left
        left -= work
        if left < 0:
            raise TookTooLong

    return spend


def _work(name: str, value: Any, instance: Any) -> int:
    """Return the work of a keyword itself, without that of the keywords below it."""
    match instance:
        case list() | dict():
            work = 1 + len(instance) // 4
        case str():
            work = 1 + len(instance) // 1_000
        case _:
            work = 1
    return work + len(repr(value)) // 50 if name in ("const", "enum") else work


def _timed(name: str, keyword: _Keyword) -> _Keyword:
    """Return a keyword of the validator that stops when the check exceeds its bound."""

    def checked(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        _spend.get()(_work(name, value, instance))
        yield from keyword(validator, value, instance, schema) or ()

    return checked


def _matches(pattern: str, text: str) -> bool:
    _spend.get()(1 + len(text) // 1_000)
    try:
        return bool(_MATCHES.execute({"pattern": _clean(pattern), "text": _clean(text)}))
    except RuntimeError as error:
        hint = "it is malformed, too large, or has look-around or back-references"
        raise _Refused(f"the pattern {_shortened(pattern)!r} is not supported: {hint}") from error


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not _matches(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], instance: Any, schema: Any
) -> Iterator[ValidationError]:
    if validator.is_type(instance, "object"):
        for pattern, subschema in patterns.items():
            for key, value in instance.items():
                if _matches(pattern, key):
                    yield from validator.descend(value, subschema, path=key, schema_path=pattern)


def _additional_properties(
    validator: Any, additional: Any, instance: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    properties, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for key, value in instance.items():
        if key in properties or any(_matches(pattern, key) for pattern in patterns):
            continue
        if additional is False:
            yield ValidationError(f"the key {key!r} is not allowed")
        else:
            yield from validator.descend(value, additional, path=key)


def _unique_items(validator: Any, unique: bool, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if unique and validator.is_type(instance, "array"):
        seen: dict[str, int] = {}
        for index, item in enumerate(instance):
            text = json.dumps(_comparable(item), sort_keys=True)
            _spend.get()(len(text) // 50)
            first = seen.setdefault(text, index)
            if first != index:
                yield ValidationError(f"the items {first} and {index} are equal")
                return


def _comparable(value: Any) -> Any:
    """Return a value with whole floats as integers: JSON Schema takes 1 and 1.0 for equal."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_comparable(item) for item in value]
        case dict():
            return {key: _comparable(item) for key, item in value.items()}
    return value


_Validator: type[Draft202012Validator] = extend(  # type: ignore[no-untyped-call] # the stubs have no types for it
    Draft202012Validator,
    {
        name: _timed(name, keyword)
        for name, keyword in {
            **Draft202012Validator.VALIDATORS,
            "pattern": _pattern,
            "patternProperties": _pattern_properties,
            "additionalProperties": _additional_properties,
            "uniqueItems": _unique_items,
        }.items()
    },
)
