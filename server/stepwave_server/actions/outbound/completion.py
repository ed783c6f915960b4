"""The answer of a chat model, put together from the parts of its stream (the protocol of OpenAI's chat completions)."""

from collections.abc import Mapping
from typing import NoReturn

from typing_extensions import TypedDict

from stepwave_server.actions.error_classification import classify_response
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.actions.outbound.bodies import read_json
from stepwave_server.actions.values import dump, load
from stepwave_server.core.model import Reason

__all__ = ["ChatAnswer", "Completion"]

MAX_TOOL_CALLS = 1_000


class ToolCall(TypedDict):
    """A call of a tool that a model asks for.

    Attributes:
        id: The model's id of the call.
        name: The name of the tool.
        arguments: Its arguments; a text, if what the model wrote is not JSON.
    """

    id: str
    name: str
    arguments: object


class ChatAnswer(TypedDict):
    """The output of `chat.complete`.

    Attributes:
        text: The text of the answer.
        refusal: Why the model refuses to answer; `None`: it does not.
        tool_calls: The tools that the model asks to call.
        finish_reason: Why the model has ended; `None`: it has not said so.
        usage: The tokens that it counted; `None`: it has not told them.
        model: The model that answered.
    """

    text: str
    refusal: str | None
    tool_calls: list[ToolCall]
    finish_reason: str | None
    usage: object
    model: str


_STATUSES = (
    ("rate_limit", 429),
    ("quota", 429),
    ("overloaded", 503),
    ("invalid_api_key", 401),
    ("authentication", 401),
    ("permission", 403),
    ("not_found", 404),
    ("invalid_request", 400),
    ("context_length", 400),
)
"""The status that an error within a stream stands for, by a part of its code or type."""


class Completion:
    """The answer of a model so far.

    Args:
        origin: The origin of the model, for messages.
        max_bytes: Bound on the arguments of all tool calls and the refusal together.

    Attributes:
        finish_reason: Why the model has ended; `None`: it has not said so.
    """

    def __init__(self, origin: str, max_bytes: int) -> None:
        self.finish_reason: str | None = None
        self._origin = origin
        self._max_bytes = self._room = max_bytes
        self._texts: list[str] = []
        self._refusals: list[str] = []
        self._calls: list[_ToolCall] = []
        self._open_calls: dict[int, _ToolCall] = {}  # by index, those that the next parts belong to
        self._usage: object = None
        self._model = ""

    def add(self, text: str) -> str:
        """Add a part of the stream, and return the text that it adds to the answer; empty: none.

        Raises:
            ActionFailed: It is an error of the model, or malformed.
        """
        part = self._mapping(read_json(text.encode(errors="replace"), self._origin))
        error = part if part.get("object") == "error" else part.get("error")
        if error:
            self._fail(error)
        said = _text(part.get("message")) or _text(part.get("detail"))
        if said and "choices" not in part:
            if "code" in part:
                self._fail(part)
            self._refuse(f"no completion: {said}")
        self._model = _text(part.get("model")) or self._model
        self._usage = part.get("usage") or self._usage
        choices = part.get("choices") or []
        if not isinstance(choices, list):
            self._refuse()
        return "".join([self._choice(self._mapping(choice)) for choice in choices])

    def output(self) -> ChatAnswer:
        """Return the output of the step.

        Raises:
            ActionFailed: Nothing of an answer has come.
        """
        if not (self._texts or self._refusals or self._calls or self.finish_reason):
            self._refuse("no completion")
        return ChatAnswer(
            text="".join(self._texts),
            refusal="".join(self._refusals) or None,
            tool_calls=[call.value(self._max_bytes) for call in sorted(self._calls, key=lambda call: call.index)],
            finish_reason=self.finish_reason,
            usage=self._usage,
            model=self._model,
        )

    def _choice(self, choice: Mapping[str, object]) -> str:
        """Add a choice, and return its text. Others than the first are not asked for."""
        if choice.get("index", 0) != 0:
            return ""
        self.finish_reason = _text(choice.get("finish_reason")) or self.finish_reason
        delta = self._mapping(choice.get("delta") or choice.get("message") or {})
        calls = delta.get("tool_calls") or []
        if not isinstance(calls, list):
            self._refuse()
        for place, call in enumerate(calls):
            self._call(place, self._mapping(call))
        if refusal := _text(delta.get("refusal")):
            self._take_room(refusal, "its refusal exceeds the bytes allowed")
            self._refusals.append(refusal)
        text = _content(delta.get("content"))
        if text:
            self._texts.append(text)
        return text

    def _call(self, place: int, part: Mapping[str, object]) -> None:
        """Add a part of a tool call. Some endpoints give no index, or one for all calls: another id is another call."""
        index = place if part.get("index") is None else part["index"]
        if not isinstance(index, int):
            self._refuse()
        call_id = _text(part.get("id"))
        call = self._open_calls.get(index)
        if call is None or (call_id and call.id and call.id != call_id):
            if len(self._calls) >= MAX_TOOL_CALLS:
                self._refuse()
            call = self._open_calls[index] = _ToolCall(index)
            self._calls.append(call)
        function = self._mapping(part.get("function") or {})
        call.id = call_id or call.id
        call.name = _text(function.get("name")) or call.name
        arguments = self._arguments(function.get("arguments"))
        self._take_room(arguments, "the arguments of its tool calls exceed the bytes allowed")
        call.arguments.append(arguments)

    def _take_room(self, text: str, problem: str) -> None:
        self._room -= len(text)
        if self._room < 0:
            raise ActionFailed(Reason.RESOURCE_EXHAUSTED, f"{self._origin} answered too much: {problem}")

    def _arguments(self, given: object) -> str:
        """Return arguments as text. Some endpoints give the object itself."""
        text = dump(given, self._max_bytes) if isinstance(given, dict) else given
        return _text(text)

    def _mapping(self, value: object) -> Mapping[str, object]:
        return value if isinstance(value, dict) else self._refuse()

    def _refuse(self, what: str = "what is no chat completion") -> NoReturn:
        raise ActionFailed(Reason.ACTION_ERROR, f"{self._origin} answered {what}", retryable=True)

    def _fail(self, error: object) -> NoReturn:
        """Raise the failure for an error within a stream, which came with the status 200."""
        fields = error if isinstance(error, dict) else {"message": error}
        found = classify_response(_status(fields), {})
        text = _text(fields.get("message")) or "an error without a message"
        message = f"{self._origin} answered an error: {text}"
        raise ActionFailed(found.reason, message, retryable=found.retryable)


class _ToolCall:
    """A tool call, whose parts come one after another."""

    __slots__ = ("arguments", "id", "index", "name")

    def __init__(self, index: int) -> None:
        self.index = index
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []

    def value(self, max_bytes: int) -> ToolCall:
        """Return the call as data. Arguments that an output cannot hold stay a text: models may write anything."""
        text = "".join(self.arguments)
        try:
            arguments: object = load(text) if text else {}
            dump([[[arguments]]], max_bytes)  # as deep as in the output
        except (ValueError, RecursionError, ActionFailed):
            arguments = text
        return ToolCall(id=self.id, name=self.name, arguments=arguments)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _content(value: object) -> str:
    """Return the text of a content, which may be a list of parts."""
    if not isinstance(value, list):
        return _text(value)
    return "".join(_text(part.get("text")) for part in value if isinstance(part, dict))


def _status(error: Mapping[str, object]) -> int:
    """Return the status that an error stands for."""
    code = error.get("code")
    if isinstance(code, str) and code.isdecimal():
        code = int(code[:4])
    if isinstance(code, int) and 400 <= code < 600:
        return code
    words = f"{code} {error.get('type')}"
    return next((status for word, status in _STATUSES if word in words), 500)
