"""Where the code of an action stands that comes with an installed library, or that calls one."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import pytest

from stepwave_server.actions.code_location import line_of, with_text
from stepwave_server.core.explanation import CodeLine

SOURCE = """
async def outer(wait):
    await inner(wait)

async def inner(wait):
    await wait()
"""

Wait = Callable[[], Coroutine[Any, Any, object]]


def module(file: Path) -> Callable[[Wait], Coroutine[Any, Any, None]]:
    """Return the function `outer` of a module that stands in a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(SOURCE)
    names: dict[str, object] = {"__name__": "given"}
    exec(compile(SOURCE, str(file), "exec"), names)
    return cast("Callable[[Wait], Coroutine[Any, Any, None]]", names["outer"])


async def standing(work: Coroutine[Any, Any, None]) -> CodeLine | None:
    """Return where a coroutine stands that waits for ever."""
    task = asyncio.create_task(work)
    await asyncio.sleep(0)
    try:
        return line_of(task)
    finally:
        task.cancel()


async def test_an_authors_own_code_is_found_under_the_libraries_that_it_calls(tmp_path: Path) -> None:
    own, library = module(tmp_path / "own.py"), module(tmp_path / "site-packages" / "library.py")
    found = await standing(own(lambda: library(asyncio.Event().wait)))
    assert found == CodeLine("inner", str(tmp_path / "own.py"), 6)


async def test_a_librarys_own_action_is_found_at_its_outermost_line(tmp_path: Path) -> None:
    library = module(tmp_path / "site-packages" / "library.py")
    found = await standing(library(asyncio.Event().wait))
    assert found == CodeLine("outer", str(tmp_path / "site-packages" / "library.py"), 3)


class Hostile:
    """An awaitable that answers no question, and never ends."""

    def __await__(self) -> "Hostile":
        return self

    def __iter__(self) -> "Hostile":
        return self

    def __next__(self) -> None:
        return None

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name) if name.endswith("_frame") else AttributeError(name)


async def test_an_awaitable_that_answers_no_question_harms_nobody() -> None:
    async def waits() -> None:
        await Hostile()  # type: ignore[misc]  # no generator, and the interpreter is content

    assert await standing(waits()) is None


async def test_code_of_the_standard_library_alone_is_nobodys() -> None:
    assert await standing(asyncio.sleep(60)) is None


async def test_a_task_that_has_not_begun_stands_at_its_first_line(tmp_path: Path) -> None:
    task = asyncio.create_task(module(tmp_path / "own.py")(asyncio.Event().wait))
    found = line_of(task)
    task.cancel()
    assert found == CodeLine("outer", str(tmp_path / "own.py"), 2)


def test_a_line_is_read_from_its_file(tmp_path: Path) -> None:
    module(tmp_path / "own.py")
    assert with_text(CodeLine("inner", str(tmp_path / "own.py"), 6)).text == "await wait()"


@pytest.mark.parametrize("file", ["/nowhere/at/all.py", "<stdin>"])
def test_a_line_that_cannot_be_read_has_no_text(file: str) -> None:
    assert with_text(CodeLine("inner", file, 6)).text == ""


def test_a_very_long_line_is_cut(tmp_path: Path) -> None:
    (tmp_path / "long.py").write_text("x = " + "1" * 1_000)
    assert len(with_text(CodeLine("f", str(tmp_path / "long.py"), 1)).text) == 200
