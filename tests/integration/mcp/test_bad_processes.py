"""Processes that break the protocol of MCP, or end. Each call fails with its reason, and none waits without end."""

import os
import sys
from pathlib import Path

import pytest

from integration.mcp.conftest import Connect, Log, answer, bad, begun, calling, failure_of, serving
from stepwave import JSON, FailureReason, Retry, RunFailed, Workflow
from waiting import until


@pytest.fixture(autouse=True)
def processes_end_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepwave_server.actions.mcp.process.STDIN_SECONDS", 0.1)
    monkeypatch.setattr("stepwave_server.actions.mcp.process.TERM_SECONDS", 0.1)


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("tool", "reason", "retryable", "text"),
    [
        ("half", FailureReason.ACTION_ERROR, False, "it wrote a malformed message: {"),
        ("odd", FailureReason.ACTION_ERROR, False, "its answer is malformed: "),
        ("odd_blob", FailureReason.ACTION_ERROR, False, "its answer is malformed: a block of it has data"),
        ("odd_kind", FailureReason.ACTION_ERROR, False, "it answered a blob whose content type is malformed"),
        ("odd_error", FailureReason.ACTION_ERROR, False, 'the tool "odd_error" failed: {"limit": 3}'),
        ("endless", FailureReason.RESOURCE_EXHAUSTED, False, "it wrote a line of more than the 8,388,608 bytes"),
        ("exits", FailureReason.UNAVAILABLE, True, "its process ended with code 7; whether the tool has run is not"),
        (
            "deaf",
            FailureReason.UNAVAILABLE,
            True,
            "it closed its standard input; whether the tool has run is not known",
        ),
        ("crashes", FailureReason.UNAVAILABLE, True, "its process was killed by signal 9; whether the tool has run"),
    ],
)
async def test_a_call_fails_with_its_reason_and_the_next_one_succeeds(
    connect: Connect, tool: str, reason: FailureReason, retryable: bool, text: str
) -> None:
    client = await connect(**bad())
    failure = await failure_of(client, tool)
    assert (failure.reason, failure.retryable) == (reason, retryable)
    assert f'MCP server "tools": {text}' in failure.message
    assert failure.details.get("outcome") == ("unknown" if "not known" in failure.message else None)
    assert (await answer(client, "process")).isdecimal()


@pytest.mark.parametrize(
    ("code", "reason", "retryable"),
    [
        (-32602, FailureReason.INVALID_INPUT, False),
        (-32601, FailureReason.NOT_FOUND, False),
        (-32603, FailureReason.ACTION_ERROR, True),
        (-32000, FailureReason.UNAVAILABLE, True),
        (7, FailureReason.ACTION_ERROR, False),
    ],
)
async def test_the_code_of_an_error_decides_its_reason(
    connect: Connect, code: int, reason: FailureReason, retryable: bool
) -> None:
    failure = await failure_of(await connect(**bad()), "refuses", {"code": code, "message": "sorry"})
    assert (failure.reason, failure.retryable) == (reason, retryable)
    assert "sorry" in failure.message


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"detail": "no connection to ø", "port": 5432}, 'sorry: {"detail": "no connection to ø", "port": 5432}'),
        ("a line of the source", "sorry: a line of the source"),
        (None, "sorry"),
    ],
)
async def test_the_data_of_an_error_are_in_the_message(connect: Connect, data: JSON, text: str) -> None:
    failure = await failure_of(await connect(**bad()), "refuses", {"code": 7, "message": "sorry", "data": data})
    assert failure.message == f'MCP server "tools": {text}'


async def test_the_data_of_an_error_are_cut_and_have_no_secrets(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPWAVE_SECRET_KEY", "sk-live-0123456789")
    client = await connect(**bad(), env={"KEY": {"secret": "KEY"}})
    data = ["sk-live-0123456789", "x" * 10_000]
    failure = await failure_of(client, "refuses", {"code": 7, "message": "sorry", "data": data})
    assert failure.message.startswith('MCP server "tools": sorry: ["[secret KEY]", "xxx')
    assert len(failure.message) <= 2_000


async def test_a_retry_starts_a_process_that_ended_again(connect: Connect) -> None:
    client = await connect(**bad())
    before = await answer(client, "process")
    os.kill(int(before), 9)
    after = await answer(client, "process", retry=Retry(max_attempts=5, initial_backoff=0.05))
    assert after != before


async def test_calls_at_once_start_one_process(connect: Connect) -> None:
    flow = Workflow("many")
    for number in range(10):
        flow.step(f"call{number}", "mcp.call", {"server": "tools", "tool": "process"})
    outputs = (await (await connect(**bad())).run(flow)).outputs
    assert len(set(outputs.values())) == 1


async def test_what_a_tool_prints_between_messages_is_logged(connect: Connect, log: Log) -> None:
    assert await answer(await connect(**bad()), "prints") == "printed"
    await log.wait_for('MCP server "tools": a debug line of a tool')


async def test_a_line_of_json_that_is_no_message_is_logged_and_the_session_lives_on(connect: Connect, log: Log) -> None:
    client = await connect(**bad("json"))
    process = await answer(client, "process")
    await log.wait_for('MCP server "tools": {"level": 30, "msg": "starting"}')
    assert await answer(client, "prints_json") == "logged"
    await log.wait_for('MCP server "tools": {"level": 30, "msg": "a tool was called"}')
    assert await answer(client, "process") == process


async def test_text_that_is_no_unicode_has_a_mark_in_its_place_and_the_session_lives_on(connect: Connect) -> None:
    client = await connect(**bad())
    process = await answer(client, "process")
    assert await answer(client, "cut_text") == "a\ufffd \N{GRINNING FACE} \\ud800 \ufffd"
    assert await answer(client, "process") == process


@pytest.mark.parametrize("text", ["working... ", "\x1b[0m", "{x: 1} "])
async def test_text_before_an_answer_in_its_line_is_logged_and_the_answer_found(
    connect: Connect, log: Log, text: str
) -> None:
    assert await answer(await connect(**bad()), "starts_late", {"text": text}) == "found"
    await log.wait_for(f'MCP server "tools": {text.strip()}\n')


async def test_a_byte_order_mark_before_an_answer_is_left_out(connect: Connect, log: Log) -> None:
    assert await answer(await connect(**bad()), "starts_late", {"text": "\ufeff"}) == "found"
    assert "\ufeff" not in log.text


async def test_what_a_server_asks_its_client_for_is_refused(connect: Connect) -> None:
    refusal = await answer(await connect(**bad()), "asks")
    assert refusal == "this client does not serve sampling/createMessage"


async def test_a_cancel_is_told_by_the_protocol(connect: Connect, log: Log) -> None:
    client = await connect(**bad())
    async with client.run(calling("waits")) as run:
        await begun(run)
        await run.cancel()
    await log.wait_for("told notifications/cancelled, its own: True")
    assert await answer(client, "process")


async def test_a_process_that_is_stuck_is_ended_and_another_one_started(
    connect: Connect, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepwave_server.actions.mcp.session.PING_SECONDS", 0.2)
    client = await connect(**bad())
    before = await answer(client, "process")
    async with client.run(calling("stuck", {"larger than a pipe": "x" * 200_000})) as run:
        await log.wait_for("stuck")
        await run.cancel()
    assert await answer(client, "process", {"larger than a pipe": "x" * 200_000}) != before
    await log.wait_for('MCP server "tools": it did not answer a ping within 0.2 s')

    async def gone() -> bool:
        return not is_alive(int(before))

    await until(gone)


async def test_a_process_that_answers_pings_stays(connect: Connect, log: Log) -> None:
    client = await connect(**bad())
    before = await answer(client, "process")
    async with client.run(calling("forgets")) as run:
        await log.wait_for("forgotten")
        await run.cancel()
    assert await answer(client, "process") == before


async def test_a_call_under_way_at_a_process_that_answers_no_ping_goes_on(
    connect: Connect, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepwave_server.actions.mcp.session.PING_SECONDS", 0.2)
    client = await connect(**bad())
    before = await answer(client, "process")
    async with client.run(calling("busy", {"until": str(tmp_path / "until")})) as run:
        await log.wait_for("busy")
        with pytest.raises(RunFailed):
            await client.run(calling("process", timeout=0.2))
        assert await answer(client, "process") != before
        (tmp_path / "until").touch()
        async for _ in run:
            pass
    assert run.result.outputs["only"] == "freed"


async def test_pages_of_tools_are_bounded(connect: Connect) -> None:
    client = await connect(**bad())
    flow = Workflow("tools")
    flow.step("only", "mcp.list", {"server": "tools"})
    with pytest.raises(RunFailed, match="its list of tools has more than 100 pages"):
        await client.run(flow)


@pytest.mark.parametrize("start", ["mute", "text"])
async def test_a_program_that_does_not_answer_is_waited_for_no_longer_than_said(connect: Connect, start: str) -> None:
    failure = await failure_of(await connect(**bad(start), connect_timeout="200ms"), "process")
    assert (failure.reason, failure.retryable) == (FailureReason.UNAVAILABLE, True)
    assert failure.message == 'MCP server "tools": no session within 0.2 s'


async def test_a_process_that_ends_at_once_fails_the_call_which_has_not_run(connect: Connect) -> None:
    failure = await failure_of(await connect(command="false"), "process")
    assert (failure.reason, failure.retryable) == (FailureReason.UNAVAILABLE, True)
    assert failure.message == 'MCP server "tools": its process ended with code 1'


@pytest.mark.parametrize(
    ("start", "text"),
    [
        ("odd", "its answer is malformed: "),
        ("refuse", "the licence has expired"),
        ("half", "it wrote a malformed message: "),
    ],
)
async def test_a_handshake_that_fails_is_unavailable_and_no_tool_has_run(
    connect: Connect, start: str, text: str
) -> None:
    failure = await failure_of(await connect(**bad(start)), "process")
    assert (failure.reason, failure.retryable) == (FailureReason.UNAVAILABLE, True)
    assert failure.message.startswith(f'MCP server "tools": no session can be opened: {text}')
    assert failure.details == {"mcp_server": "tools"}


async def test_the_last_line_of_a_process_that_ended_says_why(connect: Connect) -> None:
    program = "import sys; sys.exit('no key\\nset SEARCH_KEY\\n')"
    failure = await failure_of(await connect(command=sys.executable, args=["-c", program]), "process")
    assert failure.message == 'MCP server "tools": its process ended with code 1: set SEARCH_KEY'


async def test_a_failure_shows_no_line_that_a_process_wrote_for_another_run(connect: Connect, log: Log) -> None:
    client = await connect(**bad())
    assert await answer(client, "blames") == "reported"
    await log.wait_for("the key of another run")
    failure = await failure_of(client, "exits")
    assert "its process ended with code 7; whether the tool has run is not known" in failure.message


async def test_malformed_notifications_are_left_out_without_a_traceback(connect: Connect, log: Log) -> None:
    assert await answer(await connect(**bad()), "odd_progress") == "answered"
    assert "Failed to validate" not in log.text


async def test_a_secret_without_a_value_fails_the_call(connect: Connect) -> None:
    failure = await failure_of(await connect(**bad(), env={"KEY": {"secret": "NOWHERE"}}), "process")
    assert failure.reason is FailureReason.NOT_FOUND
    assert failure.message.startswith('MCP server "tools": ')
    assert "set the variable STEPWAVE_SECRET_NOWHERE" in failure.message


async def test_a_program_that_is_gone_fails_the_call(connect: Connect, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    client = await connect(command=str(program))
    program.unlink()
    failure = await failure_of(client, "process")
    assert (failure.reason, failure.retryable) == (FailureReason.UNAVAILABLE, False)
    assert f"{program} cannot be started: No such file or directory" in failure.message


async def test_the_stop_of_the_server_ends_a_process_that_is_being_started_and_ignores_signals(
    tmp_path: Path, log: Log
) -> None:
    async with serving(tmp_path, bad("stubborn")) as client:
        await client.start(calling("process"))
        process = int(await log.wait_for("started "))
    assert not is_alive(process)
