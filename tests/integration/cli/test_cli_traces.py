"""Traces of a process with actions that have their own tracer provider: complete, and exported before the end."""

from pathlib import Path

from integration.cli.shell import Shell

FLOW = "name: looking\nsteps: [{id: a, action: look_up}]\n"
SPAN_NAMES = ["lookup", "stepwave.attempt", "stepwave.step", "stepwave.wave", "stepwave.run"]


def _span_names(spans: Path) -> list[str]:
    """Return the names of the action's span and of its ancestors."""
    lines = [line.split() for line in spans.read_text().splitlines()]
    spans_by_id = {span_id: (name, parent_id) for name, span_id, parent_id in lines}
    assert len(spans_by_id) == len(lines), "two spans have the same id"
    (span_id,) = [span_id for span_id, (name, _) in spans_by_id.items() if name == "lookup"]
    names = []
    while span_id != "0":
        name, span_id = spans_by_id[span_id]
        names.append(name)
    return names


def test_a_local_run_has_a_complete_trace(local_shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(FLOW)
    spans = tmp_path / "spans"
    done = local_shell.run("run", str(tmp_path / "flow.yaml"), "--actions", "traced_actions", SPANS=str(spans))
    assert done.returncode == 0, done.stderr
    assert _span_names(spans) == SPAN_NAMES


def test_runs_of_a_server_have_complete_traces(local_shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(FLOW)
    spans = tmp_path / "spans"
    with local_shell.start(
        "serve", "--listen", "127.0.0.1:0", "--actions", "traced_actions", SPANS=str(spans)
    ) as server:
        address = server.wait_for_output(":").strip()
        done = Shell(address).run("run", str(tmp_path / "flow.yaml"))
        assert done.returncode == 0, done.stderr
        server.process.terminate()
        server.end()
    assert _span_names(spans) == SPAN_NAMES
