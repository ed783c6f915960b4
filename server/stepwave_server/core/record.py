"""The `record` decorator: value objects that the type checker keeps immutable, at the price of plain ones."""

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

__all__ = ["record"]

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """Make a class a slotted dataclass that type checkers treat as frozen.

    A dataclass frozen at run time sets each field through `object.__setattr__`, three times the cost of a plain one; a
    run makes several records for every step, so the checker alone guards them.
    """
    return dataclass(slots=True)(cls)
