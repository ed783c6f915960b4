"""The current line of an action that comes from an installed library, or that calls one."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import pytest

from stepwave_server.actions.code_location import current_line, with_text
from stepwave_server.core.explanation import CodeLine

SOURCE = """
async def outer(wait):
    await inner(wait)

async def inner(wait):
    await wait()
"""

Wait = Callable[[], Coroutine[Any, Any, object]]


def module(file: Path) -> Callable[[Wait], Coroutine[Any, Any, None]]:
    """Return the function `outer` of a module in a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(SOURCE)
    names: dict[str, object] = {"__name__": "loaded"}
    exec(compile(SOURCE, str(file), "exec"), names)
    return cast("Callable[[Wait], Coroutine[Any, Any, None]]", names["outer"])


async def line_while_waiting(work: Coroutine[Any, Any, None]) -> CodeLine | None:
    """Return the current line of a coroutine that waits for ever."""
    task = asyncio.create_task(work)
    await asyncio.sleep(0)
    try:
        return current_line(task)
    finally:
        task.cancel()


async def test_the_line_is_the_authors_even_while_a_library_runs(tmp_path: Path) -> None:
    own, library = module(tmp_path / "own.py"), module(tmp_path / "site-packages" / "library.py")
    found = await line_while_waiting(own(lambda: library(asyncio.Event().wait)))
    assert found == CodeLine("inner", str(tmp_path / "own.py"), 6)


async def test_the_line_of_a_librarys_action_is_its_outermost(tmp_path: Path) -> None:
    library = module(tmp_path / "site-packages" / "library.py")
    found = await line_while_waiting(library(asyncio.Event().wait))
    assert found == CodeLine("outer", str(tmp_path / "site-packages" / "library.py"), 3)


class Hostile:
    """An awaitable whose attributes raise, and which never ends."""

    def __await__(self) -> "Hostile":
        return self

    def __iter__(self) -> "Hostile":
        return self

    def __next__(self) -> None:
        return None

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name) if name.endswith("_frame") else AttributeError(name)


async def test_an_awaitable_with_attributes_that_raise_has_no_line() -> None:
    async def wait() -> None:
        await Hostile()  # type: ignore[misc]  # not a generator, but the interpreter accepts it

    assert await line_while_waiting(wait()) is None


async def test_code_of_the_standard_library_has_no_line() -> None:
    assert await line_while_waiting(asyncio.sleep(60)) is None


async def test_a_task_that_has_not_started_is_at_its_first_line(tmp_path: Path) -> None:
    task = asyncio.create_task(module(tmp_path / "own.py")(asyncio.Event().wait))
    found = current_line(task)
    task.cancel()
    assert found == CodeLine("outer", str(tmp_path / "own.py"), 2)


def test_the_text_of_a_line_is_read_from_its_file(tmp_path: Path) -> None:
    module(tmp_path / "own.py")
    assert with_text(CodeLine("inner", str(tmp_path / "own.py"), 6)).text == "await wait()"


@pytest.mark.parametrize("file", ["/nowhere/at/all.py", "<stdin>"])
def test_a_line_that_cannot_be_read_has_no_text(file: str) -> None:
    assert with_text(CodeLine("inner", file, 6)).text == ""


def test_a_very_long_line_is_cut(tmp_path: Path) -> None:
    (tmp_path / "long.py").write_text("x = " + "1" * 1_000)
    assert len(with_text(CodeLine("f", str(tmp_path / "long.py"), 1)).text) == 200
