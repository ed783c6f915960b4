"""`stepwave init`: write a small project that works."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from stepwave.cli.display.output import print_line
from stepwave.cli.exit_codes import CommandError

__all__ = ["init"]

_FILES = ("actions.py", "flows/research.yaml", "test_flow.py", "client.py")
_COMMANDS = ("stepwave run flows/research.yaml --actions actions", "pip install pytest && pytest", "python client.py")


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The folder of the project. It is created if it does not exist.")
    ] = Path(),
) -> None:
    """Write a small project: actions, a workflow that uses them, its test, and a client. No file is overwritten.

    ```
    stepwave init research
    ```
    """
    paths = {name: folder / name for name in _FILES}
    if existing := [str(path) for path in paths.values() if path.exists()]:
        raise CommandError(
            f"{', '.join(existing)} already {'exists' if len(existing) == 1 else 'exist'}; nothing written"
        )
    templates = files("stepwave.cli") / "templates"
    for name, path in paths.items():
        _create_folder(path.parent)
        _write_new_file(path, (templates / name).read_bytes())
        print_line(f"wrote {path}")
    print_line("next:" if folder.samefile(Path()) else f"next, in {folder}:")
    for command in _COMMANDS:
        print_line(f"  {command}")


def _create_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"cannot create {folder}: {error.strerror}") from error


def _write_new_file(path: Path, content: bytes) -> None:
    try:
        with path.open("xb") as file:
            file.write(content)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}") from error
