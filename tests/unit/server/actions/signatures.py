"""Helpers for tests of signatures."""

import json
from collections.abc import Callable
from typing import NotRequired, TypedDict

import pytest

from stepwave import Context
from stepwave_server.actions.call import Signature
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.core.model import Reason

__all__ = ["CONTEXT", "City", "arguments_of", "problem_of"]

CONTEXT = Context(run_id="run", step_id="step")


class City(TypedDict):
    """A city, as a typed dictionary."""

    name: str
    people: NotRequired[int]


def arguments_of(function: Callable[..., object], value: object) -> dict[str, object]:
    return Signature.of(function).arguments(json.dumps(value), lambda: CONTEXT)


def problem_of(function: Callable[..., object], value: object) -> str:
    """Return the problems of an input as one text."""
    with pytest.raises(ActionFailed) as failed:
        arguments_of(function, value)
    assert failed.value.reason is Reason.INVALID_INPUT
    return str(failed.value)
