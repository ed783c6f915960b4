"""The decorator `action`: the targets that it accepts and refuses, and the name that it gives them."""

import functools
import types
from collections.abc import Callable
from typing import Any

import pytest

from stepwave import Workflow, action
from stepwave._actions.action import action_name


def find(query: str) -> str:
    return query


class Finder:
    def invoke(self, query: str) -> str:
        return query


class Called:
    def __call__(self, query: str) -> str:
        return query


class Strict:
    def __setattr__(self, name: str, value: object) -> None:
        raise ValueError(f"no field {name}")

    def __call__(self) -> None: ...


class Slotted:
    __slots__ = ()

    def __call__(self) -> None: ...


def test_a_function_keeps_its_own_name_with_and_without_parentheses() -> None:
    def bare() -> None: ...

    def empty() -> None: ...

    assert action(bare) is bare
    assert action()(empty) is empty
    assert (action_name(bare), action_name(empty)) == ("bare", "empty")


@pytest.mark.parametrize(
    "make", [lambda: functools.partial(find, query="x"), Finder, Called], ids=["partial", "invoke", "call"]
)
def test_an_object_is_marked_with_a_name(make: Callable[[], Callable[..., object]]) -> None:
    marked = action("found")(make())
    assert action_name(marked) == "found"
    flow = Workflow("f")
    assert flow.step("s", marked).id == "s"


@pytest.mark.parametrize(
    ("target", "kind"), [(functools.partial(find), "partial"), (Finder(), "Finder"), (Called(), "Called")]
)
def test_an_object_without_a_name_is_refused_with_the_way_to_name_it(target: Any, kind: str) -> None:
    for mark in (action, action()):
        with pytest.raises(TypeError, match=rf"^an object of {kind} has no name of its own: write action"):
            mark(target)


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        (5, "an action is a function or a class, or an object with a name, got int"),
        (None, "an action is a function or a class, or an object with a name, got NoneType"),
        (staticmethod(find), "put @action below @staticmethod, on the function itself"),
        (classmethod(print), "put @action below @classmethod, on the function itself"),
    ],
    ids=["number", "nothing", "static method", "class method"],
)
def test_a_target_that_is_no_action_is_named(target: Any, problem: str) -> None:
    with pytest.raises(TypeError) as refused:
        action(target)
    assert str(refused.value) == problem
    with pytest.raises(TypeError):
        action("named")(target)


@pytest.mark.parametrize(
    "target", [Finder().invoke, len, Slotted(), Strict()], ids=["bound method", "built-in", "slots", "strict"]
)
def test_an_object_that_cannot_be_marked_is_refused_with_an_alternative(target: Any) -> None:
    kind = type(target).__name__
    with pytest.raises(TypeError, match=rf"^an object of {kind} cannot be marked; functools\.partial"):
        action("named")(target)
    assert action_name(action("named")(functools.partial(target))) == "named"


def test_an_object_with_a_name_of_its_own_keeps_it() -> None:
    cached = functools.cache(find)
    assert action(cached) is cached
    assert action_name(cached) == "find"


def test_a_class_without_invoke_and_stream_is_refused() -> None:
    class Idle: ...

    with pytest.raises(TypeError, match="class Idle has neither `invoke` nor `stream`"):
        action(Idle)


@pytest.mark.parametrize("name", ["two words", "1st", "a" * 129])
def test_a_malformed_name_is_refused_where_it_is_given(name: str) -> None:
    with pytest.raises(ValueError, match="malformed action name"):
        action(name)


def test_a_mark_is_not_inherited() -> None:
    @action
    class Marked(Finder): ...

    class Sub(Marked): ...

    assert action_name(Marked) == "Marked"
    assert (action_name(Sub), action_name(Marked()), action_name(Sub())) == (None, None, None)
    with pytest.raises(TypeError, match="is not an action"):
        Workflow("f").step("s", Sub)


def test_a_method_of_an_object_has_the_mark_of_its_function() -> None:
    class Shop:
        @action("buy")
        def buy(self) -> None: ...

    assert action_name(Shop().buy) == "buy"


def test_an_object_that_answers_no_question_has_no_mark() -> None:
    class Proxy:
        def __getattribute__(self, name: str) -> object:
            raise RuntimeError("outside of its context")

    assert action_name(Proxy()) is None
    assert action_name(types.SimpleNamespace()) is None
