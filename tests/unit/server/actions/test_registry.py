"""The registry: discovery of actions, and all that can be wrong with them."""

import functools
import importlib.metadata
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from stepwave import action
from stepwave_server.actions import Action, ActionsError, Registry

BUILT_IN = ["chat.complete", "core.echo", "core.fail", "core.sleep", "core.wait", "core.workflow", "http.request"]


@action
async def search(query: str) -> str:
    """Look something up.

    In more words.
    """
    return query


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose modules can be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def _registry(*actions: object) -> Registry:
    return Registry(actions, entry_points=False)


def _names(registry: Registry) -> list[str]:
    return [found.name for found in registry]


def test_every_registry_has_the_built_in_actions() -> None:
    assert _names(_registry()) == BUILT_IN
    assert {found.source for found in _registry()} == {"built-in"}


def test_a_marked_function_is_an_action() -> None:
    found = _registry(search).get("search")
    assert found is not None
    assert (found.description, found.streaming, found.threaded) == ("Look something up.", False, False)
    assert found.source == f"{__name__}:search"


def test_a_marked_class_is_instantiated_once() -> None:
    instances: list[object] = []

    @action("memory")
    class Memory:
        """Remember."""

        def __init__(self) -> None:
            instances.append(self)

        async def invoke(self, key: str) -> str:
            return key

    found = _registry(Memory).get("memory")
    assert found is not None
    assert found.description == "Remember."
    assert len(instances) == 1


def test_a_class_with_a_stream_method_is_streaming() -> None:
    @action
    class Streamer:
        async def stream(self) -> AsyncIterator[str]:
            yield "word"

        async def invoke(self) -> str:
            return "word"

    found = _registry(Streamer).get("Streamer")
    assert found is not None
    assert found.streaming


@pytest.mark.parametrize(
    ("body", "streaming", "threaded"),
    [
        ("async def f(): pass", False, False),
        ("async def f():\n    yield 1", True, False),
        ("def f(): pass", False, True),
        ("def f():\n    yield 1", True, True),
    ],
    ids=["async", "async generator", "sync", "sync generator"],
)
def test_the_kind_of_function_decides_how_it_runs(body: str, streaming: bool, threaded: bool) -> None:
    scope: dict[str, object] = {"__name__": "scope"}
    exec(body, scope)
    found = Action.of(action(scope["f"]))  # type: ignore[call-overload]  # a function, from exec
    assert (found.streaming, found.threaded) == (streaming, threaded)


def test_the_marked_functions_of_a_module_are_actions(folder: Path) -> None:
    (folder / "tools_a.py").write_text(
        "from stepwave import action\n"
        "@action\ndef one(): ...\n"
        "@action('b.two')\nasync def two(): ...\n"
        "def three(): ...\n"
    )
    assert _names(_registry("tools_a")) == ["b.two", *BUILT_IN, "one"]


def test_a_module_object_is_accepted(folder: Path) -> None:
    module = ModuleType("made")
    module.__dict__["search"] = search
    assert "search" in _names(_registry(module))


def test_an_action_in_two_modules_is_added_once(folder: Path) -> None:
    (folder / "tools_b.py").write_text("from stepwave import action\n@action\ndef one(): ...\n")
    (folder / "tools_c.py").write_text("from tools_b import one\n")
    assert _names(_registry("tools_b", "tools_c")).count("one") == 1


def test_two_actions_of_one_name_are_rejected(folder: Path) -> None:
    for name in ("tools_d", "tools_e"):
        (folder / f"{name}.py").write_text("from stepwave import action\n@action\ndef one(): ...\n")
    with pytest.raises(ActionsError, match="two actions are named 'one': tools_d:one and tools_e:one"):
        _registry("tools_d", "tools_e")


def _create(text: str) -> Callable[[], str]:
    @action("made")
    def answer() -> str:
        return text

    return answer


def test_an_object_passed_twice_is_one_action() -> None:
    created = _create("a")
    assert _names(_registry(created, created)).count("made") == 1


def test_two_functions_of_one_factory_are_two_actions_of_one_name() -> None:
    with pytest.raises(ActionsError, match=r"'made': two objects of .*_create.<locals>.answer \(.*registry.py:\d+\)"):
        _registry(_create("a"), _create("b"))


class Shop:
    def __init__(self, stock: str) -> None:
        self.stock = stock

    @action("buy")
    def buy(self) -> str:
        return self.stock

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shop)

    def __hash__(self) -> int:
        return 1


def test_a_method_of_one_object_is_one_action() -> None:
    shop = Shop("apples")
    assert _names(_registry(shop.buy, shop.buy)).count("buy") == 1


def test_methods_of_two_objects_are_two_actions_of_one_name() -> None:
    with pytest.raises(ActionsError, match=r"'buy': two objects of .*Shop\.buy"):
        _registry(Shop("apples").buy, Shop("pears").buy)


def test_a_wrapped_action_is_another_action_of_the_same_name(folder: Path) -> None:
    (folder / "tools_j.py").write_text(
        "import functools\nfrom stepwave import action\n"
        "@action\ndef one(): ...\n"
        "@functools.wraps(one)\ndef other(): ...\n"
    )
    with pytest.raises(ActionsError, match=r"'one': two objects of tools_j:one \(.*tools_j.py:3\)"):
        _registry("tools_j")


def test_an_unmarked_subclass_of_an_action_is_no_action(folder: Path) -> None:
    (folder / "tools_k.py").write_text(
        "from stepwave import action\n"
        "@action\nclass Search:\n    async def invoke(self): return 'base'\n"
        "class Better(Search):\n    async def invoke(self): return 'better'\n"
        "search = Search()\n"
    )
    assert _names(_registry("tools_k")) == ["Search", *BUILT_IN]
    with pytest.raises(ActionsError, match="tools_k:Better is not marked with @action"):
        _registry(sys.modules["tools_k"].Better)


def test_a_marked_subclass_is_an_action_of_its_own(folder: Path) -> None:
    (folder / "tools_l.py").write_text(
        "from stepwave import action\n"
        "@action\nclass Search:\n    async def invoke(self): return 'base'\n"
        "@action\nclass Better(Search): ...\n"
    )
    assert _names(_registry("tools_l")) == ["Better", "Search", *BUILT_IN]


def test_a_proxy_object_is_ignored(folder: Path) -> None:
    (folder / "tools_m.py").write_text(
        "from stepwave import action\n"
        "class Proxy:\n    def __getattribute__(self, name): raise RuntimeError('outside of its context')\n"
        "proxy = Proxy()\n"
        "@action\ndef one(): ...\n"
    )
    assert "one" in _names(_registry("tools_m"))


def test_all_problems_are_reported_together(folder: Path) -> None:
    (folder / "tools_n.py").write_text(
        "from __future__ import annotations\nfrom stepwave import action\n"
        "@action\ndef first(*words: str): ...\n"
        "@action\ndef second(when: Nowhere, then: Never, *, ok: int): ...\n"
        "@action\ndef third() -> Nowhere: ...\n"
        "@action\nclass Fourth:\n    def __init__(self, key): ...\n    def invoke(self): ...\n"
    )
    with pytest.raises(ActionsError) as caught:
        _registry("tools_n", "tools_nowhere", 5)
    problems = str(caught.value).split("\n")
    assert [problem.partition(":")[0] for problem in problems] == [
        "action 'first' (tools_n",
        "action 'second' (tools_n",
        "action 'Fourth' (tools_n",
        "no module named 'tools_nowhere' (looked in the working directory and installed packages)",
        "not an action",
    ]
    assert "'when': its type hints cannot be read: name 'Nowhere'" in problems[1]
    assert "'then': its type hints cannot be read: name 'Never'" in problems[1]


def test_a_marked_partial_is_an_action() -> None:
    partly = action("partly")(functools.partial(search, query="x"))
    found = _registry(partly).get("partly")
    assert found is not None
    assert (found.source, found.description) == (f"{__name__}:search", "Look something up.")


def test_the_name_of_a_built_in_action_is_rejected() -> None:
    @action("core.echo")
    async def mine() -> None: ...

    with pytest.raises(ActionsError, match=r"two actions are named 'core\.echo'"):
        _registry(mine)


def test_a_module_without_actions_is_rejected(folder: Path) -> None:
    (folder / "tools_f.py").write_text("def one(): ...\n")
    with pytest.raises(ActionsError, match="module 'tools_f' has no function or class marked with @action"):
        _registry("tools_f")


@pytest.mark.parametrize("name", ["tools_nowhere", "tools_nowhere.inside"])
def test_a_missing_module_is_reported(folder: Path, name: str) -> None:
    with pytest.raises(ActionsError, match=f"no module named '{name}'"):
        _registry(name)


def test_a_missing_module_that_a_module_needs_is_reported(folder: Path) -> None:
    (folder / "tools_g.py").write_text("import tools_missing\n")
    message = r"module 'tools_g' needs a module that is missing: tools_missing \(.*tools_g\.py:1\)"
    with pytest.raises(ActionsError, match=message):
        _registry("tools_g")


def test_a_module_that_raises_is_reported(folder: Path) -> None:
    (folder / "tools_h.py").write_text("1 / 0\n")
    with pytest.raises(ActionsError, match="module 'tools_h' cannot be imported: ZeroDivisionError: division by zero"):
        _registry("tools_h")


def test_a_module_that_exits_is_reported(folder: Path) -> None:
    (folder / "tools_o.py").write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(ActionsError, match="module 'tools_o' cannot be imported: SystemExit: 3"):
        _registry("tools_o")


def test_an_unmarked_function_is_rejected() -> None:
    def plain() -> None: ...

    with pytest.raises(ActionsError, match="is not marked with @action"):
        _registry(plain)


def test_a_value_that_is_no_action_is_rejected() -> None:
    with pytest.raises(ActionsError, match="not an action: 5"):
        _registry(5)


def test_parameters_that_cannot_be_filled_are_reported_with_their_action() -> None:
    @action
    def bad(*words: str) -> None: ...

    with pytest.raises(ActionsError, match=r"action 'bad' \(.*bad\): parameter 'words' cannot be filled by name"):
        _registry(bad)


def test_a_class_that_cannot_be_instantiated_is_reported() -> None:
    @action
    class Needy:
        def __init__(self, key: str) -> None: ...

        async def invoke(self) -> None: ...

    with pytest.raises(ActionsError, match="action 'Needy'"):
        _registry(Needy)


def test_actions_of_installed_packages_are_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "tools_i.py").write_text("from stepwave import action\n@action\ndef one(): ...\n")
    points = {
        "stepwave.actions": [
            importlib.metadata.EntryPoint("function", "tools_i:one", "stepwave.actions"),
            importlib.metadata.EntryPoint("module", "tools_i", "stepwave.actions"),
        ]
    }
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points[group])
    assert "one" in _names(Registry())


def test_an_entry_point_that_cannot_be_loaded_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("broken", "tools_nowhere:search", "stepwave.actions")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])
    with pytest.raises(ActionsError, match=r"entry point 'broken' \(tools_nowhere:search\)"):
        Registry()


def test_the_message_for_an_unknown_name_has_a_similar_one() -> None:
    assert _registry(search).unknown("serach") == 'unknown action "serach"; did you mean "search"?'


def test_the_message_for_a_dissimilar_name_lists_no_actions() -> None:
    assert _registry(search).unknown("zzz") == 'unknown action "zzz"'
    assert _registry().unknown("zzz") == 'unknown action "zzz"'


def test_an_action_can_be_added_later_and_again() -> None:
    registry = _registry()
    assert registry.missing([search]) == [search]
    registry.add([search])
    found = registry.get("search")
    registry.add([search, search])
    assert registry.get("search") is found
    assert registry.missing([search]) == []


def test_a_method_of_the_same_object_is_the_same_action() -> None:
    class Tools:
        @action
        async def look(self, query: str) -> str:
            return query

    tools, others = Tools(), Tools()
    registry = _registry(tools.look)
    registry.add([tools.look])
    with pytest.raises(ActionsError, match="two actions are named 'look'"):
        registry.add([others.look])


def test_if_one_action_cannot_be_added_none_is_and_all_problems_are_reported() -> None:
    @action("core.echo")
    async def echo() -> None: ...

    @action
    class Broken:
        def __init__(self) -> None:
            raise OSError("no such disk")

        def invoke(self) -> None: ...

    registry = _registry()
    with pytest.raises(ActionsError, match=r"core\.echo.*\n.*no such disk"):
        registry.add([search, echo, Broken])
    assert _names(registry) == BUILT_IN
