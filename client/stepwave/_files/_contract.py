"""How the contract's fields look in a file, told by their descriptors, so that new fields are read as they come."""

import re
from collections.abc import Iterator
from decimal import Decimal
from functools import cache

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, OneofDescriptor
from google.protobuf.duration_pb2 import Duration

from stepwave.v1 import payload_pb2, workflow_pb2

__all__ = [
    "DURATION_EXAMPLES",
    "DURATION_PATTERN",
    "EXTENSION",
    "INTEGER_BOUNDS",
    "REFERENCES",
    "SHORT_FORMS",
    "choices",
    "enum_names",
    "holds_references",
    "is_duration",
    "is_map",
    "is_payload",
    "map_value",
    "parse_duration",
    "parse_seconds",
    "reachable",
]

DURATION_PATTERN = r"([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+"
"""A duration as Go writes it: `1h30m`, `1.5s`. A number alone is seconds."""

DURATION_EXAMPLES = "300ms, 5s, 1m30s or 90"
INTEGER_BOUNDS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
SHORT_FORMS = {"FallbackAction": "action"}
"""Messages that a file may give as the text of one of their fields: `fallback: {action: search}`."""

EXTENSION = "x-"
"""Prefix of extension keys. A workflow file may have them at its top level, and the server never sees them."""

REFERENCES = {"$from": "step", "$input": "input", "$item": "item", "$secret": "secret", "$cel": "expression"}
"""The keys that make a mapping in an input a binding, and the source that each sets."""

_DURATION = re.compile(DURATION_PATTERN, re.ASCII)
_DURATION_PART = re.compile(r"([0-9.]+)([a-zµ]+)", re.ASCII)
_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_MOST_DIGITS = 20
_LONGEST_SECONDS = 315_576_000_000  # google.protobuf.Duration holds no more


def is_map(field: FieldDescriptor) -> bool:
    """Say whether a field is a map of free keys."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def map_value(field: FieldDescriptor) -> FieldDescriptor:
    """Return the field that stands for the values of a map."""
    if field.message_type is None:
        raise TypeError(f"{field.full_name} is not a map")
    return field.message_type.fields_by_name["value"]


def is_duration(field: FieldDescriptor) -> bool:
    """Say whether a field is a span of time."""
    return field.message_type is not None and field.message_type.full_name == Duration.DESCRIPTOR.full_name


def is_payload(field: FieldDescriptor) -> bool:
    """Say whether a field holds a value of any shape."""
    return field.message_type is not None and field.message_type.full_name == payload_pb2.Payload.DESCRIPTOR.full_name


def holds_references(field: FieldDescriptor) -> bool:
    """Say whether a value may hold `$from` and its like: bindings stand beside it."""
    siblings = field.containing_type
    return is_payload(field) and siblings is not None and "bindings" in siblings.fields_by_name


@cache
def enum_names(enum: EnumDescriptor) -> dict[str, int]:
    """Return the names that a file gives to an enum's values: `FAILURE_POLICY_FAIL_FAST` is `fail_fast`."""
    prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
    return {value.name.removeprefix(prefix).lower(): value.number for value in enum.values if value.number != 0}


def choices(descriptor: Descriptor) -> Iterator[OneofDescriptor]:
    """Give the groups of fields that exclude each other; the wrappers of optional fields are none."""
    return (oneof for oneof in descriptor.oneofs if len(oneof.fields) > 1)


def reachable(root: Descriptor = workflow_pb2.Workflow.DESCRIPTOR) -> Iterator[Descriptor]:
    """Give every message that a workflow file spells out, the root first."""
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
        ValueError: The text is not one, is finer than a nanosecond, or longer than 10,000 years.
    """
    if not _DURATION.fullmatch(text):
        raise _no_duration(text)
    parts = _DURATION_PART.findall(text)
    return _duration(text, sum((Decimal(number) * _NANOSECONDS[unit] for number, unit in parts), Decimal()))


def parse_seconds(text: str) -> Duration:
    """Read a number of JSON's grammar as seconds.

    Raises:
        ValueError: It is negative, finer than a nanosecond, or longer than 10,000 years.
    """
    if text.startswith("-"):
        raise _no_duration(text)
    seconds = Decimal(text)
    if seconds and abs(seconds.adjusted()) > _MOST_DIGITS:  # beyond what decimal arithmetic holds
        raise ValueError(f'"{text}" is {"finer than a nanosecond" if seconds < 1 else "longer than 10,000 years"}')
    return _duration(text, seconds * _NANOSECONDS["s"])


def _no_duration(text: str) -> ValueError:
    return ValueError(f'"{text}" is not a duration such as {DURATION_EXAMPLES}')


def _duration(text: str, nanoseconds: Decimal) -> Duration:
    """Return a duration. A decimal number takes no longer for a large exponent, as a fraction would."""
    if nanoseconds > _LONGEST_SECONDS * 10**9:
        raise ValueError(f'"{text}" is longer than 10,000 years')
    if nanoseconds != nanoseconds.to_integral_value():
        raise ValueError(f'"{text}" is finer than a nanosecond')
    seconds, rest = divmod(int(nanoseconds), 10**9)
    return Duration(seconds=seconds, nanos=rest)
