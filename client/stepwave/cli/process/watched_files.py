"""The files that a server was started from, and how they have changed since."""

import asyncio
import importlib
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

__all__ = ["WatchedFiles", "is_project_file"]

_POLL_INTERVAL = 0.3  # seconds between two looks at the files
_BURST_INTERVAL = 0.1  # seconds without a further change, after which a burst of changes is over
_MAX_NAMES = 3  # of changed files in a message
_OTHER_FOLDERS = frozenset({"__pycache__", "node_modules", "site-packages"})

_Stamp: TypeAlias = tuple[int, int] | None  # time and size; `None`: there is no such file


class WatchedFiles:
    """The files whose changes restart a server.

    They are the modules with actions or all files of their packages, the workflow files, the files of limits and
    secrets, and the modules that the server reports as imported.

    Args:
        folder: The working directory of the server.
        modules: The names of the modules with actions.
        workflows: The folder of workflow files, if there is one.
        limits: The limits file, if there is one.
        secrets: The secrets file, if there is one.
        sleep: Sleeps for some seconds between two looks at the files.
    """

    def __init__(
        self,
        folder: Path,
        *,
        modules: Iterable[str] = (),
        workflows: Path | None = None,
        limits: Path | None = None,
        secrets: Path | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._folder = folder
        self._sleep = sleep
        self._modules = tuple(modules)
        self._workflows = workflows and folder / workflows
        self._settings = [folder / file for file in (limits, secrets) if file is not None]
        self._named: set[Path] = set()
        self._imported: set[Path] = set()
        self._known: dict[Path, _Stamp] = {}

    def begin(self) -> None:
        """Record the state of the files. Later changes are compared with it. Call this before a server starts."""
        self._imported.clear()
        self._named = self._find_named()
        self._known = {file: _stamp(file) for file in {*self._named, *_project_files(self._folder)}}

    def add_imported(self, file: Path) -> None:
        """Watch a file that the server has imported. A change since `begin` counts."""
        self._imported.add(file)
        if file not in self._known:
            self._known[file] = _stamp(file)

    async def wait_for_change(self, *, whole_project: bool = False) -> str:
        """Wait until files have changed, and a burst of changes is over. Return their names, for a message.

        Args:
            whole_project: Whether any Python file of the working directory counts, imported or not, and new ones too.
        """
        while True:
            await self._sleep(_POLL_INTERVAL)
            changed = self._changed(whole_project)
            while changed:
                await self._sleep(_BURST_INTERVAL)
                before, changed = changed, self._changed(whole_project)
                if changed == before:
                    return _list_names(changed, self._folder)

    def _changed(self, whole_project: bool) -> dict[Path, _Stamp]:
        """Return the files that have changed, with their present state."""
        files = self._find_named() | self._named | self._imported
        if whole_project:
            files.update(_project_files(self._folder), self._known)
        stamps = {file: _stamp(file) for file in files}
        return {file: stamp for file, stamp in stamps.items() if stamp != self._known.get(file)}

    def _find_named(self) -> set[Path]:
        """Return the files that the options of the server name."""
        files = {file for module in self._modules for file in _module_files(module, self._folder)}
        if self._workflows is not None:
            with suppress(OSError):
                files.update(file for file in self._workflows.iterdir() if file.suffix in {".yaml", ".yml", ".json"})
        files.update(self._settings)
        return files


def is_project_file(file: Path, folder: Path) -> bool:
    """Return whether a file is the user's own: in the working directory, but neither hidden nor installed there."""
    return file.is_relative_to(folder) and not any(map(_is_other, file.relative_to(folder).parts))


def _is_other(name: str) -> bool:
    return name.startswith(".") or name in _OTHER_FOLDERS


def _project_files(folder: Path) -> Iterator[Path]:
    """Yield the user's own Python files in a folder."""
    for root, folders, files in os.walk(folder):
        folders[:] = (name for name in folders if not _is_other(name))
        yield from (Path(root, name) for name in files if name.endswith(".py") and not _is_other(name))


def _module_files(module: str, folder: Path) -> Iterator[Path]:
    """Yield the file of a module, or the files of its package, without importing it; none if it is not found."""
    top = module.partition(".")[0]
    importlib.invalidate_caches()
    try:
        spec = PathFinder.find_spec(top, [str(folder), *sys.path]) or find_spec(top)
    except (ImportError, ValueError):
        return
    if spec is None:
        return
    if spec.submodule_search_locations is not None:
        for location in spec.submodule_search_locations:
            yield from _project_files(Path(location))
    elif spec.origin is not None and spec.has_location:
        yield Path(spec.origin)


def _stamp(file: Path) -> _Stamp:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _list_names(files: Iterable[Path], folder: Path) -> str:
    """Return the names of files, relative to the working directory: `tools.py, helpers.py and 4 more`."""
    names = sorted(str(file.relative_to(folder) if file.is_relative_to(folder) else file) for file in files)
    more = len(names) - _MAX_NAMES
    return ", ".join(names[:_MAX_NAMES]) + (f" and {more:,} more" if more > 0 else "")
