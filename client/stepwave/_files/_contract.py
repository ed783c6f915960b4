"""The form of the contract's fields in a file, derived from their descriptors, so new fields need no code."""

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cache

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, OneofDescriptor
from google.protobuf.duration_pb2 import Duration

from stepwave._values.time import NANOS_PER_MICROSECOND, NANOS_PER_SECOND
from stepwave.v1 import payload_pb2, workflow_pb2

__all__ = [
    "DURATION_EXAMPLES",
    "DURATION_PATTERN",
    "EXTENSION",
    "INTEGER_BOUNDS",
    "OVER",
    "REFERENCES",
    "SHORT_FORMS",
    "choices",
    "enum_names",
    "holds_references",
    "is_duration",
    "is_json_text",
    "is_map",
    "is_payload",
    "keys",
    "map_value",
    "parse_duration",
    "parse_seconds",
    "reachable",
    "rivals",
]

DURATION_PATTERN = r"([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+"
"""A duration as in Go: `1h30m`, `1.5s`. A number alone is seconds."""

DURATION_EXAMPLES = "300ms, 5s, 1m30s or 90"
INTEGER_BOUNDS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
SHORT_FORMS = {"FallbackAction": "action"}
"""Messages that a file may write as the value of one field: `fallback: {action: search}`."""

EXTENSION = "x-"
"""Prefix of extension keys. A workflow file may have them at its top level; the server does not get them."""

REFERENCES = {"$from": "step", "$input": "input", "$item": "item", "$secret": "secret", "$cel": "expression"}
"""The keys that make a mapping in an input a reference, and the source of the binding that each sets."""

OVER = "over"
"""The key of a `for_each` for its list: a reference, or the list itself. The contract has a field for each source."""

_EXTRA_KEYS: Mapping[str, Sequence[str]] = {"ForEach": (OVER,)}
_EXTRA_RIVALS: Mapping[str, Sequence[Sequence[str]]] = {"Step": (("action", "workflow"), ("retry", "workflow"))}
_JSON_TEXTS = frozenset({"stepwave.v1.Workflow.input_schema"})

_DURATION = re.compile(DURATION_PATTERN, re.ASCII)
_DURATION_PART = re.compile(r"([0-9.]+)([a-zµ]+)", re.ASCII)
_NANOSECONDS = {
    "ns": 1,
    "us": NANOS_PER_MICROSECOND,
    "µs": NANOS_PER_MICROSECOND,
    "ms": 1_000 * NANOS_PER_MICROSECOND,
    "s": NANOS_PER_SECOND,
    "m": 60 * NANOS_PER_SECOND,
    "h": 3600 * NANOS_PER_SECOND,
}
_MAX_DIGITS = 20
_MAX_SECONDS = 315_576_000_000  # the limit of google.protobuf.Duration


def is_map(field: FieldDescriptor) -> bool:
    """Return whether a field is a map."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def map_value(field: FieldDescriptor) -> FieldDescriptor:
    """Return the field of the values of a map."""
    if field.message_type is None:
        raise TypeError(f"{field.full_name} is not a map")
    return field.message_type.fields_by_name["value"]


def is_duration(field: FieldDescriptor) -> bool:
    """Return whether a field is a duration."""
    return field.message_type is not None and field.message_type.full_name == Duration.DESCRIPTOR.full_name


def is_payload(field: FieldDescriptor) -> bool:
    """Return whether a field is a payload, a value of any shape."""
    return field.message_type is not None and field.message_type.full_name == payload_pb2.Payload.DESCRIPTOR.full_name


def holds_references(field: FieldDescriptor) -> bool:
    """Return whether a field may contain references: its message has bindings too."""
    siblings = field.containing_type
    return is_payload(field) and siblings is not None and "bindings" in siblings.fields_by_name


@cache
def enum_names(enum: EnumDescriptor) -> dict[str, int]:
    """Return an enum's numbers by their names in a file: `FAILURE_POLICY_FAIL_FAST` is `fail_fast`."""
    prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
    return {value.name.removeprefix(prefix).lower(): value.number for value in enum.values if value.number != 0}


def choices(descriptor: Descriptor) -> Iterator[OneofDescriptor]:
    """Yield the oneofs of a message, without the synthetic ones of optional fields."""
    return (oneof for oneof in descriptor.oneofs if len(oneof.fields) > 1)


def keys(descriptor: Descriptor) -> list[str]:
    """Return the keys that a mapping for a message may have in a file."""
    return [*descriptor.fields_by_name, *_EXTRA_KEYS.get(descriptor.name, ())]


def rivals(descriptor: Descriptor) -> Iterator[list[str]]:
    """Yield the keys of a message of which a file can have one at most."""
    for choice in choices(descriptor):
        yield [*(field.name for field in choice.fields), *_EXTRA_KEYS.get(descriptor.name, ())]
    for names in _EXTRA_RIVALS.get(descriptor.name, ()):
        yield list(names)


def is_json_text(field: FieldDescriptor) -> bool:
    """Return whether a field is the JSON text of an object, for which a file can have the object itself."""
    return field.full_name in _JSON_TEXTS


def reachable(root: Descriptor = workflow_pb2.Workflow.DESCRIPTOR) -> Iterator[Descriptor]:
    """Yield every message type that a workflow file can contain, the root first."""
    seen, todo = {root.full_name}, [root]
    while todo:
        descriptor = todo.pop(0)
        yield descriptor
        for field in descriptor.fields:
            message = None if is_map(field) or is_duration(field) or is_payload(field) else field.message_type
            if message is not None and message.full_name not in seen:
                seen.add(message.full_name)
                todo.append(message)


def parse_duration(text: str) -> Duration:
    """Read a duration such as `300ms`, `1.5s`, `2m` or `1h30m`.

    Raises:
        ValueError: The text is not a duration, finer than a nanosecond, or longer than 10,000 years.
    """
    if not _DURATION.fullmatch(text):
        raise _not_a_duration(text)
    parts = _DURATION_PART.findall(text)
    return _duration(text, sum((Decimal(number) * _NANOSECONDS[unit] for number, unit in parts), Decimal()))


def parse_seconds(text: str) -> Duration:
    """Read a number of JSON's grammar as seconds.

    Raises:
        ValueError: The number is negative, finer than a nanosecond, or longer than 10,000 years.
    """
    if text.startswith("-"):
        raise _not_a_duration(text)
    seconds = Decimal(text)
    if seconds and abs(seconds.adjusted()) > _MAX_DIGITS:  # beyond the precision of decimal arithmetic
        raise ValueError(f'"{text}" is {"finer than a nanosecond" if seconds < 1 else "longer than 10,000 years"}')
    return _duration(text, seconds * _NANOSECONDS["s"])


def _not_a_duration(text: str) -> ValueError:
    return ValueError(f'"{text}" is not a duration such as {DURATION_EXAMPLES}')


def _duration(text: str, nanoseconds: Decimal) -> Duration:
    """Return a duration. `Decimal`, unlike `Fraction`, is fast for large exponents."""
    if nanoseconds > _MAX_SECONDS * NANOS_PER_SECOND:
        raise ValueError(f'"{text}" is longer than 10,000 years')
    if nanoseconds != nanoseconds.to_integral_value():
        raise ValueError(f'"{text}" is finer than a nanosecond')
    seconds, rest = divmod(int(nanoseconds), NANOS_PER_SECOND)
    return Duration(seconds=seconds, nanos=rest)
