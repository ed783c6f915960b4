"""What following the text of a step writes on a terminal, and in a pipe."""

import io
import sys
from collections.abc import AsyncIterator

import pytest

from stepwave._client.text import TextChunk
from stepwave.cli.display.step_text import StepTextDisplay


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Return the output to a terminal, which shows standard output and standard error."""
    output = _Terminal()
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(sys, "stderr", output)
    monkeypatch.setenv("NO_COLOR", "1")
    return output


async def chunks(*texts: TextChunk | str) -> AsyncIterator[TextChunk]:
    for text in texts:
        yield text if isinstance(text, TextChunk) else TextChunk(text)


async def test_a_text_without_a_last_line_break_gets_one_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    output = terminal(monkeypatch)
    await StepTextDisplay("story").write(chunks("Once ", "upon"))
    assert output.getvalue() == "Once upon\n"


@pytest.mark.parametrize("texts", [("Once\n",), ("Once\n", ""), ()])
async def test_a_complete_text_is_unchanged_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, texts: tuple[str, ...]
) -> None:
    output = terminal(monkeypatch)
    await StepTextDisplay("story").write(chunks(*texts))
    assert output.getvalue() == "".join(texts)


async def test_messages_have_a_line_of_their_own_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    output = terminal(monkeypatch)
    display = StepTextDisplay("story")

    async def interrupted() -> AsyncIterator[TextChunk]:
        yield TextChunk("Once ")
        display.show_message("reconnected")
        yield TextChunk("upon")

    await display.write(interrupted())
    assert output.getvalue() == "Once \nreconnected\nupon\n"


async def test_a_text_that_begins_anew_begins_on_a_new_line(monkeypatch: pytest.MonkeyPatch) -> None:
    output = terminal(monkeypatch)
    await StepTextDisplay("story").write(chunks("Once ", TextChunk("Twice", restarts=True)))
    assert output.getvalue() == "Once \nstory: the text begins anew; everything before is void\nTwice\n"


async def test_a_pipe_gets_the_text_alone(capsys: pytest.CaptureFixture[str]) -> None:
    display = StepTextDisplay("story")
    await display.write(chunks("Once ", "upon"))
    display.show_message("reconnected")
    display.close()
    assert capsys.readouterr() == ("Once upon", "reconnected\n")
