"""The files that `stepwave serve --reload` watches: which changes count, and when a burst of changes is over."""

from collections.abc import Callable
from pathlib import Path

import pytest

from stepwave.cli.process.watched_files import WatchedFiles, is_project_file


class Project:
    """A folder with files, which change while they are watched.

    Attributes:
        steps: What happens at each look at the files. At the next look after these, the watch ends with `Unchanged`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steps: list[Callable[[], object]] = []

    def write(self, *files: str, text: str = "") -> None:
        for file in files:
            (self.folder / file).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / file).write_text(text)

    def change(self, *files: str) -> None:
        self.steps.append(lambda: self.write(*files, text="changed"))

    def delete(self, file: str) -> None:
        self.steps.append((self.folder / file).unlink)

    def pause(self) -> None:
        self.steps.append(lambda: None)

    def watch(
        self, *modules: str, workflows: str | None = None, limits: str | None = None, secrets: str | None = None
    ) -> WatchedFiles:
        files = WatchedFiles(
            self.folder,
            modules=modules,
            workflows=Path(workflows) if workflows else None,
            named=[Path(file) for file in (limits, secrets) if file],
            sleep=self._sleep,
        )
        files.begin()
        return files

    async def _sleep(self, _seconds: float) -> None:
        if not self.steps:
            raise Unchanged
        self.steps.pop(0)()


class Unchanged(Exception):
    """Raised at the end of the steps, if no change was found."""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.write("tools.py", "other.py", "pack/__init__.py", "pack/deep/part.py", "flows/a.yaml", "limits.yaml")
    return project


@pytest.mark.parametrize(
    "file",
    ["tools.py", "pack/__init__.py", "pack/deep/part.py", "pack/new.py", "flows/a.yaml", "flows/b.json", "limits.yaml"],
)
async def test_a_file_that_the_options_name_is_watched(project: Project, file: str) -> None:
    files = project.watch("tools", "pack.deep.part", workflows="flows", limits="limits.yaml")
    project.change(file)
    project.pause()
    assert await files.wait_for_change() == file


async def test_a_file_of_secrets_is_watched(project: Project) -> None:
    files = project.watch(secrets="secrets.toml")
    project.change("secrets.toml")
    project.pause()
    assert await files.wait_for_change() == "secrets.toml"


@pytest.mark.parametrize("file", ["other.py", "flows/notes.txt", "pack/data.json", "pack/.hidden.py", "new.py"])
async def test_no_other_file_is_watched(project: Project, file: str) -> None:
    files = project.watch("tools", "pack", workflows="flows", limits="limits.yaml")
    project.change(file)
    project.pause()
    with pytest.raises(Unchanged):
        await files.wait_for_change()


async def test_an_imported_file_is_watched_from_the_beginning(project: Project) -> None:
    files = project.watch("tools")
    project.write("other.py", text="changed before it is reported")
    files.add_imported(project.folder / "other.py")
    project.pause()
    project.pause()
    assert await files.wait_for_change() == "other.py"


async def test_a_file_that_is_written_and_imported_later_has_not_changed(project: Project) -> None:
    files = project.watch("tools")
    project.write("new.py")
    files.add_imported(project.folder / "new.py")
    project.pause()
    with pytest.raises(Unchanged):
        await files.wait_for_change()
    project.change("new.py")
    project.pause()
    assert await files.wait_for_change() == "new.py"


async def test_a_burst_of_changes_is_one_change(project: Project) -> None:
    files = project.watch("tools", "pack", "other")
    project.change("tools.py")
    project.change("other.py")
    project.change("pack/__init__.py", "pack/deep/part.py")
    project.pause()
    assert await files.wait_for_change() == "other.py, pack/__init__.py, pack/deep/part.py and 1 more"


async def test_a_change_that_is_undone_is_none(project: Project) -> None:
    files = project.watch(limits="missing.yaml")
    project.change("missing.yaml")
    project.delete("missing.yaml")
    project.pause()
    with pytest.raises(Unchanged):
        await files.wait_for_change()


async def test_a_deleted_file_has_changed(project: Project) -> None:
    files = project.watch("pack")
    project.delete("pack/deep/part.py")
    project.pause()
    assert await files.wait_for_change() == "pack/deep/part.py"


@pytest.mark.parametrize("file", ["other.py", "new.py"])
async def test_in_the_whole_project_any_python_file_counts(project: Project, file: str) -> None:
    files = project.watch("missing")
    project.change(file)
    project.pause()
    assert await files.wait_for_change(whole_project=True) == file


async def test_a_module_that_is_written_later_is_found(project: Project) -> None:
    files = project.watch("later")
    project.change("later.py")
    project.pause()
    assert await files.wait_for_change() == "later.py"


def test_hidden_and_installed_files_are_not_of_the_project(tmp_path: Path) -> None:
    assert is_project_file(tmp_path / "pack" / "part.py", tmp_path)
    for file in (".venv/a.py", "venv/lib/site-packages/a.py", "pack/.part.py", "../elsewhere.py"):
        assert not is_project_file((tmp_path / file).resolve(), tmp_path.resolve())
