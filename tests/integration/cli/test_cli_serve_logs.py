"""What `serve` logs: one line for the end of each run, as text or JSON, and no payloads, in logs or in spans."""

import json
import re
from pathlib import Path

from integration.cli.shell import RunningCommand, Shell, serving

MARKER = "the-secret-of-the-payloads"

ECHO = "name: echo\nsteps: [{id: a, action: core.echo}]"

FLOW = f"""
name: marked
failure_policy: continue
steps:
  - {{id: a, action: core.echo, input: {{value: {MARKER}}}}}
  - {{id: b, action: core.echo, when: 'deps.a.output.value == "{MARKER}"', depends_on: [a]}}
  - {{id: unfit, action: core.sleep, input: {{seconds: {{$from: a/value}}}}, allow_failure: true}}
  - {{id: each, action: core.echo, for_each: {{items: [{MARKER}, 2]}}}}
"""


def _flow(folder: Path, text: str) -> str:
    file = folder / "flow.yaml"
    file.write_text(text)
    return str(file)


def _stop(server: RunningCommand) -> str:
    """Stop a server, and return the rest of its log."""
    server.process.terminate()
    code, _, log = server.end()
    assert code == 0
    return log


def test_the_end_of_a_run_is_one_line_with_its_state_and_counts(tmp_path: Path) -> None:
    with serving() as (address, server):
        done = Shell(address).run("run", _flow(tmp_path, ECHO), "--output", "json")
        run_id = json.loads(done.stdout.splitlines()[0])["run_id"]
        lines = [line for line in _stop(server).splitlines() if run_id in line]
    assert len(lines) == 1
    assert "run succeeded after 0.0" in lines[0]
    assert lines[0].endswith(f"steps: 1 succeeded run_id={run_id}")


def test_each_record_is_a_line_of_json_with_its_ids(tmp_path: Path) -> None:
    flow = _flow(tmp_path, ECHO)
    with serving("--log-format", "json") as (address, server):
        Shell(address).run("run", flow)
        records = [json.loads(line) for line in _stop(server).splitlines()]
    assert all({"time", "level", "logger", "message"} <= record.keys() for record in records)
    [end] = [record for record in records if "run_id" in record]
    assert end["message"].startswith("run succeeded after ")
    assert (end["level"], end["state"]) == ("info", "succeeded")
    assert end["time"].endswith("+00:00")


def test_a_record_of_a_traced_run_has_the_id_of_its_trace(tmp_path: Path) -> None:
    flow = _flow(tmp_path, ECHO)
    arguments = ("serve", "--listen", "127.0.0.1:0", "--log-format", "json")
    with Shell().start(*arguments, OTEL_TRACES_EXPORTER="console") as server:
        Shell(server.wait_for_output(":").strip()).run("run", flow)
        log = _stop(server)
    [end] = [json.loads(line) for line in log.splitlines() if line.startswith('{"time"') and "run_id" in line]
    assert f'"trace_id": "0x{end["trace_id"]}"' in log


def test_a_message_of_an_action_has_the_ids_of_its_attempt_whatever_logger_it_uses() -> None:
    with serving("--log-format", "json", "--actions", "tools") as (address, server):
        Shell(address).run("run", "flows/logging.yaml")
        records = [json.loads(line) for line in _stop(server).splitlines()]
    logged = {record["message"]: record for record in records if record["logger"] in {"stepwave.action", "tools"}}
    assert {message: (it["step_id"], it["attempt"]) for message, it in logged.items()} == {
        "hello from words": ("words", 1),
        "careful:\nsecond line\x1b[31m": ("words", 1),
        "failed": ("error", 1),
    }
    assert len({record["run_id"] for record in logged.values()}) == 1
    assert "ValueError" in logged["failed"]["exception"]


def test_payloads_are_in_neither_logs_nor_spans(tmp_path: Path) -> None:
    arguments = ("serve", "--listen", "127.0.0.1:0", "--log-level", "debug")
    with Shell().start(*arguments, OTEL_TRACES_EXPORTER="console") as server:
        done = Shell(server.wait_for_output(":").strip()).run("run", _flow(tmp_path, FLOW), "--output", "json")
        log = _stop(server)
    assert MARKER in done.stdout
    assert '"name": "stepwave.run"' in log
    assert MARKER not in log


def test_with_the_detail_of_waves_steps_and_attempts_have_no_spans(tmp_path: Path) -> None:
    arguments = ("serve", "--listen", "127.0.0.1:0", "--trace-detail", "waves")
    with Shell().start(*arguments, OTEL_TRACES_EXPORTER="console") as server:
        Shell(server.wait_for_output(":").strip()).run("run", _flow(tmp_path, ECHO))
        log = _stop(server)
    assert re.findall(r'"name": "stepwave\.(\w+)"', log) == ["wave", "run"]
