"""Texts of the files that the settings name."""

from pathlib import Path

__all__ = ["read_text"]


def read_text(path: Path, error: type[Exception]) -> str:
    """Return the text of a file. A byte order mark is left out.

    Args:
        path: The file.
        error: What is raised if it cannot be read, with a message that names it.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as problem:
        raise error(f"{path}: cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise error(f"{path}: cannot be read: not UTF-8") from None
