"""TOML to Python values. What the standard library does not parse for its depth or length is an error as any other."""

import tomllib

__all__ = ["TOMLDecodeError", "parse_toml"]

TOMLDecodeError = tomllib.TOMLDecodeError

MAX_DEPTH = 100
"""Tables and lists that may be within each other."""


def parse_toml(text: str) -> dict[str, object]:
    """Parse TOML.

    Raises:
        TOMLDecodeError: It is malformed or nested too deeply, or has a number that is too long.
    """
    try:
        parsed = tomllib.loads(text)
    except TOMLDecodeError:
        raise
    except RecursionError:
        raise TOMLDecodeError("Nested too deeply") from None
    except ValueError as error:  # from `int`, and from the constructors of dates
        raise TOMLDecodeError(str(error).partition(":")[0]) from None
    _check_depth(parsed)
    return parsed


def _check_depth(parsed: dict[str, object]) -> None:
    level: list[object] = [parsed]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise TOMLDecodeError("Nested too deeply")
