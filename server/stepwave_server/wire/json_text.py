"""JSON text to Python values and back. Numbers keep their digits."""

from collections.abc import Callable

import simplejson

__all__ = ["dump_text", "load_text"]

_ENCODE: Callable[[object], str] = simplejson.JSONEncoder(ensure_ascii=False).encode


def load_text(text: str) -> object:
    """Parse JSON. Numbers are `RawJSON`, with their text."""
    parsed: object = simplejson.loads(text, parse_float=simplejson.RawJSON, parse_int=simplejson.RawJSON)
    return parsed


def dump_text(value: object, *, sort_keys: bool = False) -> str:
    """Return the JSON of a value that `load_text` returned, or that is built of such values."""
    if isinstance(value, simplejson.RawJSON):  # a number: a list may have many
        number: str = value.encoded_json
        return number
    text = simplejson.dumps(value, ensure_ascii=False, sort_keys=True) if sort_keys else _ENCODE(value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # a lone surrogate has no UTF-8 form: escape it
            text = simplejson.dumps(value, sort_keys=sort_keys)
    return text
