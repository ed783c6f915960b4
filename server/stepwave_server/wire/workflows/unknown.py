"""Fields that this version of the contract does not know: named, wherever in a message they stand."""

from collections.abc import Collection
from functools import cache

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from stepwave_server.core.validate import Violation

__all__ = ["has_unknown_fields", "unknown_fields", "unknown_workflow_fields"]


def has_unknown_fields(message: Message) -> bool:
    """Say whether a message itself has fields that nobody here knows, such as a choice that came later."""
    return bool(len(UnknownFieldSet(message)))


def unknown_fields(message: Message, root: str, *, apart: Collection[str] = ()) -> list[Violation]:
    """Name the unknown fields of a message and of all that it holds.

    Args:
        message: Where to look.
        root: What the message itself is called.
        apart: Its own fields that others look into.
    """
    found: list[Violation] = []
    _collect(message, "", root, apart, found)
    return found


def unknown_workflow_fields(message: Message) -> list[Violation]:
    """Name the unknown fields of a workflow. The common case, none, costs one copy, however many steps there are."""
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    return [] if known.ByteSize() == message.ByteSize() else unknown_fields(message, "workflow")


def _collect(message: Message, path: str, root: str, apart: Collection[str], found: list[Violation]) -> None:
    unknown = UnknownFieldSet(message)
    for index in range(len(unknown)):
        where = f"field {unknown[index].field_number} of {message.DESCRIPTOR.full_name}"
        found.append(Violation(path or root, f"this server does not know {where}"))
    for name, repeated in _inner(message.DESCRIPTOR):
        if name in apart:
            continue
        place = f"{path}.{name}" if path else name
        if repeated:
            for index, item in enumerate(getattr(message, name)):
                _collect(item, f"{place}[{index}]", root, (), found)
        elif message.HasField(name):
            _collect(getattr(message, name), place, root, (), found)


@cache
def _inner(descriptor: Descriptor) -> tuple[tuple[str, bool], ...]:
    """Return the fields that hold messages, and whether they hold several. Entries of maps are unknown as a whole."""
    return tuple(
        (field.name, field.is_repeated)
        for field in descriptor.fields
        if field.message_type is not None and not field.message_type.GetOptions().map_entry
    )
