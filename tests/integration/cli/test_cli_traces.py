"""Traces of a process whose actions module sets a tracer provider: whole, and exported when the command has ended."""

from pathlib import Path

from integration.cli.shell import Shell

FLOW = "name: looking\nsteps: [{id: a, action: looked_up}]\n"
LINEAGE = ["lookup", "stepwave.attempt", "stepwave.step", "stepwave.wave", "stepwave.run"]


def _lineage(spans: Path) -> list[str]:
    """Return the names of the action's span and of all above it."""
    lines = [line.split() for line in spans.read_text().splitlines()]
    known = {own: (name, parent) for name, own, parent in lines}
    assert len(known) == len(lines), "two spans have one id"
    (place,) = [own for own, (name, _) in known.items() if name == "lookup"]
    names = []
    while place != "0":
        name, place = known[place]
        names.append(name)
    return names


def test_a_run_in_process_has_its_whole_trace(alone: Shell, tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(FLOW)
    spans = tmp_path / "spans"
    done = alone.run("run", str(tmp_path / "flow.yaml"), "--actions", "traced", SPANS=str(spans))
    assert done.returncode == 0, done.stderr
    assert _lineage(spans) == LINEAGE


def test_a_server_has_the_whole_traces_of_its_runs(alone: Shell, tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(FLOW)
    spans = tmp_path / "spans"
    with alone.start("serve", "--listen", "127.0.0.1:0", "--actions", "traced", SPANS=str(spans)) as server:
        address = server.wait_for_output(":").strip()
        done = Shell(address).run("run", str(tmp_path / "flow.yaml"))
        assert done.returncode == 0, done.stderr
        server.process.terminate()
        server.end()
    assert _lineage(spans) == LINEAGE
