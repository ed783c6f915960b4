"""Finds the fields of a message that this version of the contract does not have, at every depth."""

from collections.abc import Collection
from functools import cache

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from stepwave_server.core.validate import Violation

__all__ = ["has_unknown_fields", "unknown_fields", "unknown_workflow_fields"]


def has_unknown_fields(message: Message) -> bool:
    """Say whether a message itself has unknown fields, such as an alternative of a later version."""
    return bool(len(UnknownFieldSet(message)))


def unknown_fields(message: Message, root: str, *, skip: Collection[str] = ()) -> list[Violation]:
    """Return the unknown fields of a message and of the messages in it.

    Args:
        message: The message.
        root: The name of the message itself in the result.
        skip: The names of its own fields that are not searched.
    """
    found: list[Violation] = []
    _collect(message, "", root, skip, found)
    return found


def unknown_workflow_fields(message: Message) -> list[Violation]:
    """Return the unknown fields of a workflow.

    Most workflows have none. To find that out costs one copy, without a look at every step.
    """
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    return [] if known.ByteSize() == message.ByteSize() else unknown_fields(message, "workflow")


def _collect(message: Message, path: str, root: str, skip: Collection[str], found: list[Violation]) -> None:
    unknown = UnknownFieldSet(message)
    for index in range(len(unknown)):
        where = f"field {unknown[index].field_number} of {message.DESCRIPTOR.full_name}"
        found.append(Violation(path or root, f"this server does not know {where}"))
    for name, repeated in _message_fields(message.DESCRIPTOR):
        if name in skip:
            continue
        place = f"{path}.{name}" if path else name
        if repeated:
            for index, item in enumerate(getattr(message, name)):
                _collect(item, f"{place}[{index}]", root, (), found)
        elif message.HasField(name):
            _collect(getattr(message, name), place, root, (), found)


@cache
def _message_fields(descriptor: Descriptor) -> tuple[tuple[str, bool], ...]:
    """Return the names of the fields that are messages, and whether they are repeated.

    Maps are left out: protobuf takes an entry with an unknown field for an unknown field as a whole.
    """
    return tuple(
        (field.name, field.is_repeated)
        for field in descriptor.fields
        if field.message_type is not None and not field.message_type.GetOptions().map_entry
    )
