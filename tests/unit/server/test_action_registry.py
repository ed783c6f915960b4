"""Where actions come from, and what goes wrong there."""

import importlib.metadata
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from stepwave import action
from stepwave_server.actions import Action, ActionsError, Registry

BUILT_IN = ["core.echo", "core.fail", "core.sleep"]


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


def _registry(*given: object) -> Registry:
    return Registry(given, entry_points=False)


def _names(registry: Registry) -> list[str]:
    return [found.name for found in registry]


def test_built_in_actions_are_always_there() -> None:
    assert _names(_registry()) == BUILT_IN
    assert {found.source for found in _registry()} == {"built-in"}


def test_a_marked_function_is_an_action() -> None:
    found = _registry(search).get("search")
    assert found is not None
    assert (found.description, found.streaming, found.threaded) == ("Look something up.", False, False)
    assert found.source == f"{__name__}:search"


def test_a_marked_class_is_made_once() -> None:
    made: list[object] = []

    @action("memory")
    class Memory:
        """Remember."""

        def __init__(self) -> None:
            made.append(self)

        async def invoke(self, key: str) -> str:
            return key

    found = _registry(Memory).get("memory")
    assert found is not None
    assert found.description == "Remember."
    assert len(made) == 1


def test_a_class_that_streams_is_streaming() -> None:
    @action
    class Talk:
        async def stream(self) -> AsyncIterator[str]:
            yield "word"

        async def invoke(self) -> str:
            return "word"

    found = _registry(Talk).get("Talk")
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
def test_the_kind_of_function_says_how_it_runs(body: str, streaming: bool, threaded: bool) -> None:
    scope: dict[str, object] = {"__name__": "scope"}
    exec(body, scope)
    found = Action.of(action(scope["f"]))  # type: ignore[call-overload]  # a function, from exec
    assert (found.streaming, found.threaded) == (streaming, threaded)


def test_a_module_gives_its_marked_functions(folder: Path) -> None:
    (folder / "tools_a.py").write_text(
        "from stepwave import action\n"
        "@action\ndef one(): ...\n"
        "@action('b.two')\nasync def two(): ...\n"
        "def three(): ...\n"
    )
    assert _names(_registry("tools_a")) == ["b.two", *BUILT_IN, "one"]


def test_a_module_object_does_too(folder: Path) -> None:
    module = ModuleType("made")
    module.__dict__["search"] = search
    assert "search" in _names(_registry(module))


def test_an_action_that_two_modules_show_is_one(folder: Path) -> None:
    (folder / "tools_b.py").write_text("from stepwave import action\n@action\ndef one(): ...\n")
    (folder / "tools_c.py").write_text("from tools_b import one\n")
    assert _names(_registry("tools_b", "tools_c")).count("one") == 1


def test_two_actions_of_one_name_are_refused(folder: Path) -> None:
    for name in ("tools_d", "tools_e"):
        (folder / f"{name}.py").write_text("from stepwave import action\n@action\ndef one(): ...\n")
    with pytest.raises(ActionsError, match="two actions are named 'one': tools_d:one and tools_e:one"):
        _registry("tools_d", "tools_e")


def test_a_built_in_name_is_taken() -> None:
    @action("core.echo")
    async def mine() -> None: ...

    with pytest.raises(ActionsError, match=r"two actions are named 'core\.echo'"):
        _registry(mine)


def test_a_module_without_actions_is_refused(folder: Path) -> None:
    (folder / "tools_f.py").write_text("def one(): ...\n")
    with pytest.raises(ActionsError, match="module 'tools_f' has no function or class marked with @action"):
        _registry("tools_f")


@pytest.mark.parametrize("name", ["tools_nowhere", "tools_nowhere.inside"])
def test_a_module_that_is_not_there_is_named(folder: Path, name: str) -> None:
    with pytest.raises(ActionsError, match=f"no module named '{name}'"):
        _registry(name)


def test_a_module_that_needs_another_names_that(folder: Path) -> None:
    (folder / "tools_g.py").write_text("import tools_missing\n")
    with pytest.raises(ActionsError, match="module 'tools_g' needs a module that is not there: tools_missing"):
        _registry("tools_g")


def test_a_module_that_breaks_says_how(folder: Path) -> None:
    (folder / "tools_h.py").write_text("1 / 0\n")
    with pytest.raises(ActionsError, match="module 'tools_h' cannot be imported: ZeroDivisionError: division by zero"):
        _registry("tools_h")


def test_a_function_that_is_not_marked_is_refused() -> None:
    def plain() -> None: ...

    with pytest.raises(ActionsError, match="is not marked with @action"):
        _registry(plain)


def test_what_is_no_action_at_all_is_refused() -> None:
    with pytest.raises(ActionsError, match="no action: 5"):
        _registry(5)


def test_parameters_that_cannot_be_filled_are_named_with_their_action() -> None:
    @action
    def bad(*words: str) -> None: ...

    with pytest.raises(ActionsError, match=r"action 'bad' \(.*bad\): parameter 'words' cannot be filled by name"):
        _registry(bad)


def test_a_class_that_cannot_be_made_is_named() -> None:
    @action
    class Needy:
        def __init__(self, key: str) -> None: ...

        async def invoke(self) -> None: ...

    with pytest.raises(ActionsError, match="action 'Needy'"):
        _registry(Needy)


def test_installed_packages_bring_theirs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "tools_i.py").write_text("from stepwave import action\n@action\ndef one(): ...\n")
    points = {
        "stepwave.actions": [
            importlib.metadata.EntryPoint("function", "tools_i:one", "stepwave.actions"),
            importlib.metadata.EntryPoint("module", "tools_i", "stepwave.actions"),
        ]
    }
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points[group])
    assert "one" in _names(Registry())


def test_an_installed_package_that_breaks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("broken", "tools_nowhere:search", "stepwave.actions")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])
    with pytest.raises(ActionsError, match=r"entry point 'broken' \(tools_nowhere:search\)"):
        Registry()


def test_an_unknown_name_is_answered_with_a_near_one() -> None:
    assert _registry(search).unknown("serach") == 'unknown action "serach"; did you mean "search"?'


def test_an_unknown_name_near_to_none_is_answered_with_what_there_is() -> None:
    assert _registry(search).unknown("zzz") == 'unknown action "zzz"; there are: search'
    assert _registry().unknown("zzz") == 'unknown action "zzz"'
