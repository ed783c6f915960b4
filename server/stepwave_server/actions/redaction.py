"""Keeps the values of an attempt's secrets out of what the attempt gives out: the second line behind the action itself.

A value is found in its exact form, without a scheme of authorization before it, and as it is written within JSON, by
Python's `repr` and in URLs. It is not found encoded in another way (Base64, a hash, twice), in parts (over several
chunks or log messages, shortened by a library before it reaches the server), or where the server does not look: in
what the action writes to files, services and standard streams; in log records and spans of threads that the action
starts without its context variables, and exceptions of tasks and threads that it leaves behind; in spans by a tracer
provider that the process sets without `RedactingProcessor`; and in what a log handler finds out by itself, such as
the local variables of a traceback.
"""

import logging
import re
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from json import dumps
from urllib.parse import quote, quote_plus

import simplejson

from stepwave_server.actions.failures import ActionFailed
from stepwave_server.core.model import Blob, Failure, Payload, Reason, secret_mark
from stepwave_server.telemetry.redaction import Redact, current_redaction, set_redaction
from stepwave_server.wire.json_text import dump_text, load_text

__all__ = ["NOTHING_SECRET", "Redactor", "redact_logs", "redact_record"]

UNREADABLE = "(its text cannot be read)"

TOO_DEEP = "it is nested too deeply to keep secrets out of it"


class Redactor:
    """Replaces the values of secrets by `[secret NAME]`.

    Args:
        values: The values by the names of the secrets.
    """

    __slots__ = ("_marks",)

    def __init__(self, values: Mapping[str, str]) -> None:
        marks = {form: secret_mark(name) for name, value in values.items() for form in _all_forms(value)}
        marks = {form: mark for form, mark in marks.items() if form != mark}
        self._marks = sorted(marks.items(), key=lambda item: -len(item[0]))  # a value may be a part of another

    def __bool__(self) -> bool:
        """Return whether there is anything to replace."""
        return bool(self._marks)

    def enter(self) -> None:
        """Redact what is logged in the current context, and the spans that end in it; so in contexts copied from it."""
        if self._marks:
            set_redaction(self.text)
            redact_logs()
        else:
            set_redaction(None)

    def text(self, text: str) -> str:
        """Return a text without the values."""
        text = str.__str__(text)  # it may be of an action's own subclass
        for form, mark in self._marks:
            text = text.replace(form, mark)
        return text

    def finds(self, data: bytes) -> str:
        """Return the mark of a secret whose value is in the data; empty: there is none."""
        return next((mark for form, mark in self._marks if _bytes(form) in data), "")

    def failure(self, failure: Failure) -> Failure:
        """Return a failure without the values."""
        if not self:
            return failure
        details = tuple((self.text(key), self.text(value)) for key, value in failure.details)
        return replace(failure, message=self.text(failure.message), details=details)

    def payload(self, payload: Payload) -> Payload:
        """Return a payload without the values. What is not affected keeps its text.

        Raises:
            ActionFailed: The payload is nested too deeply.
        """
        if not self:
            return payload
        if isinstance(payload, Blob):
            return Blob(self.text(payload.content_type), self._data(payload.data))
        if "\\" not in payload and self.text(payload) == payload:  # without escapes, strings are written as they are
            return payload
        try:
            value = load_text(payload)
            redacted = self._value(value)
            text = payload if redacted == value else dump_text(redacted)
        except RecursionError:
            raise ActionFailed(Reason.ACTION_ERROR, TOO_DEEP) from None
        mark = self.finds(text.encode())  # such as in `[1,2,3,4]` the value `1,2,3,4`
        return dumps(mark) if mark else text

    def _value(self, value: object) -> object:
        match value:
            case str():
                return self.text(value)
            case simplejson.RawJSON():
                text = self.text(value.encoded_json)
                return value if text == value.encoded_json else text
            case dict():
                return {self.text(key): self._value(item) for key, item in value.items()}
            case list():
                return [self._value(item) for item in value]
        return value

    def _data(self, data: bytes) -> bytes:
        for form, mark in self._marks:
            data = data.replace(_bytes(form), mark.encode())
        return data


NOTHING_SECRET = Redactor({})
"""The redactor of an attempt without secrets."""


_SCHEME = re.compile(r"\A(?:bearer|basic|token|apikey) +(?=\S{8})", re.IGNORECASE)
"""The scheme at the beginning of an Authorization header. Services often show the credentials after it alone."""


def _all_forms(value: str) -> set[str]:
    """Return the forms of a value, without the space around it, and without a scheme before credentials as well."""
    stripped = value.strip()
    return _forms(value) | _forms(stripped) | _forms(_SCHEME.sub("", stripped))


def _forms(value: str) -> set[str]:
    """Return a value as it is, and as it is written within JSON, by Python and in URLs."""
    in_json = {dumps(value)[1:-1], dumps(value, ensure_ascii=False)[1:-1]}
    in_urls = {quote(value), quote(value, safe=""), quote_plus(value)}
    return {value, repr(value)[1:-1], ascii(value)[1:-1], *in_json, *in_urls}


def _bytes(form: str) -> bytes:
    return form.encode(errors="surrogatepass")


# Logs.


def redact_logs() -> None:
    """Redact the log records of this process from now on, each as the context says in which it is logged.

    Records are redacted where they are made, before any handler has them. Handlers of the root logger redact the
    attributes that `extra` adds later, and records that a library makes in its own way.
    """
    make = logging.getLogRecordFactory()
    if not isinstance(make, _RedactingFactory):
        logging.setLogRecordFactory(_RedactingFactory(make))
    for handler in logging.getLogger().handlers:
        handler.addFilter(_redact_handled)


class _RedactingFactory:
    """Makes log records with another factory, and redacts them.

    Args:
        make: The other factory.
    """

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make

    def __call__(self, *args: object, **kwargs: object) -> logging.LogRecord:
        """Return a new record."""
        record = self._make(*args, **kwargs)
        redact = current_redaction()
        if redact is not None:
            redact_record(record, redact)
        return record


def redact_record(record: logging.LogRecord, redact: Redact) -> None:
    """Redact the message of a record, its exception and its stack. Never raises."""
    try:
        message = record.getMessage()
        redacted = redact(message)
    except BaseException:  # the text is the action's code, and a handler would print the arguments
        message, redacted = "", UNREADABLE
    if redacted != message:
        record.msg, record.args = redacted, None
    record.name = redact(record.name)
    if record.exc_info:
        _redact_exception(record, redact)
    if record.exc_text:
        record.exc_text = redact(record.exc_text)
    if record.stack_info:
        record.stack_info = redact(record.stack_info)


def _redact_exception(record: logging.LogRecord, redact: Redact) -> None:
    """Replace the exception of a record by its redacted traceback, if that shows a value."""
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return
    try:
        text = "".join(traceback.format_exception(error)).rstrip("\n")
        redacted = redact(text)
    except BaseException:
        text, redacted = "", UNREADABLE
    if redacted != text:
        record.exc_info, record.exc_text = None, redacted


_USUAL = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime"})
"""The attributes of every record."""


def _redact_handled(record: logging.LogRecord) -> bool:
    """Redact a record, with the attributes that `extra` has added to it. Return that it is to be shown."""
    redact = current_redaction()
    if redact is not None:
        redact_record(record, redact)
        for name in vars(record).keys() - _USUAL:
            shown, redacted = _shown(getattr(record, name), redact)
            if redacted != shown:
                setattr(record, name, redacted)
    return True


def _shown(value: object, redact: Redact) -> tuple[str, str]:
    """Return the text by which a value is shown, and the same redacted."""
    try:
        shown = value if isinstance(value, str) else repr(value)
        return shown, redact(shown)
    except BaseException:
        return "", UNREADABLE
