"""`stepwave backup`: copy a server's journal to a file, even while the server runs."""

from pathlib import Path
from typing import Annotated

import typer

from stepwave.cli.display.output import print_message
from stepwave.cli.display.text import plural
from stepwave.cli.exit_codes import CommandError
from stepwave.cli.server import JOURNAL_FORMS, JOURNAL_HELP, ConfigOption, require_server_extra
from stepwave.cli.settings import make_settings

__all__ = ["backup"]


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write the copy.", show_default=False)],
    journal: Annotated[
        str | None, typer.Option(metavar=JOURNAL_FORMS, help=f"The journal to copy. {JOURNAL_HELP}", show_default=False)
    ] = None,
    config: ConfigOption = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Copy the journal of a server on this machine to a file. The server may be running.

    The copy has everything that was committed before the copy started. To serve it: `stepwave serve --journal
    sqlite:FILE`.
    """
    require_server_extra()
    from stepwave_server.journal import JournalError
    from stepwave_server.journal import backup as copy

    source = _journal_path(journal, config)
    _check_target(source, file, force=force)
    try:
        copy(source, file)
    except JournalError as error:
        raise CommandError(str(error)) from error
    print_message(f"wrote {file}, {plural(file.stat().st_size, 'byte')}: a copy of {source}")


def _journal_path(journal: str | None, config: Path | None) -> Path:
    path = make_settings({"journal": journal}, config).settings.journal_path()
    if path is None:
        raise CommandError("the journal is in memory: only its server can read it")
    if path.is_dir():
        raise CommandError(f"{path} is a folder; name the journal's file, as in sqlite:{path / 'journal.db'}")
    if not path.is_file():
        raise CommandError(f"there is no journal at {path}")
    return path


def _check_target(source: Path, file: Path, *, force: bool) -> None:
    if not file.exists():
        return
    if file.is_dir():
        raise CommandError(f"{file} is a folder")
    if file.samefile(source):
        raise CommandError(f"{file} is the journal itself")
    if not force:
        raise CommandError(f"{file} already exists; overwrite it with --force")
