"""`stepwave rerun`, `export` and `delete`: commands for ended runs."""

import json
from pathlib import Path

import pytest

from integration.cli.shell import Shell, serving
from stepwave import RunExport
from stepwave.testing import replay


@pytest.fixture
def greeted(shell: Shell) -> str:
    """Return the id of a run that succeeded."""
    shell.run("run", "greeting", "--run-id", "greeted", "--input", '{"name": "ann"}')
    return "greeted"


@pytest.fixture
def failed(shell: Shell) -> str:
    """Return the id of a run with a step that failed, and one that succeeded."""
    shell.run("run", "failing", "--run-id", "failed-once")
    return "failed-once"


def test_a_rerun_prints_and_exits_as_a_run_does(shell: Shell, greeted: str) -> None:
    done = shell.run("rerun", greeted)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"twice": ["ANN", "ANN"]})
    assert done.stderr.splitlines()[0] == "rerun of greeted"


def test_from_failed_reuses_steps_that_succeeded(shell: Shell, failed: str) -> None:
    done = shell.run("rerun", failed, "--from-failed")
    assert (done.returncode, json.loads(done.stdout)) == (1, {"aside": 2})
    lines = [line.split(" s  ", 1)[-1] for line in done.stderr.splitlines()]
    assert "aside   succeeded  taken over from failed-once" in lines
    assert "broken  started    broken" in lines


def test_a_rerun_can_be_detached(shell: Shell, greeted: str) -> None:
    done = shell.run("rerun", greeted, "--detach", "--run-id", "again")
    assert (done.stdout, done.stderr) == ("again\n", "see it: stepwave watch again\n")
    assert shell.run("watch", "again").stderr.startswith("rerun of greeted\n")


def test_a_rerun_as_json_prints_its_events(shell: Shell, failed: str) -> None:
    done = shell.run("rerun", failed, "--from-failed", "--output", "json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    ends = {event["result"]["step_id"]: event["result"] for event in events if event["kind"] == "step_finished"}
    assert (ends["aside"]["reused_from"], ends["broken"]["reused_from"]) == (failed, "")
    assert done.stderr == ""


def test_a_rerun_with_another_input_is_a_new_run_of_the_same_workflow(shell: Shell, greeted: str) -> None:
    done = shell.run("rerun", greeted, "--input", '{"name": "bob"}', "--run-id", "greeted-bob")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"twice": ["BOB", "BOB"]})
    run, earlier = (json.loads(shell.run("export", run_id).stdout)["definition"] for run_id in ("greeted-bob", greeted))
    assert run["workflow"] == earlier["workflow"]
    assert "rerun_of" not in run


def test_a_rerun_with_another_input_has_an_id_like_that_of_the_earlier_run(shell: Shell, greeted: str) -> None:
    done = shell.run("rerun", greeted, "--input", '{"name": "bob"}', "--detach")
    assert (done.returncode, done.stdout.rpartition("-")[0]) == (0, greeted)


def test_a_rerun_reads_its_input_from_a_file(shell: Shell, greeted: str, tmp_path: Path) -> None:
    (tmp_path / "input.json").write_text('{"name": "eve"}')
    done = shell.run("rerun", greeted, "--input", f"@{tmp_path}/input.json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"twice": ["EVE", "EVE"]})


def test_null_is_another_input(shell: Shell, greeted: str) -> None:
    done = shell.run("rerun", greeted, "--input", "null")
    assert (done.returncode, done.stdout) == (1, "")
    assert "✗ hello: " in done.stderr


def test_another_input_does_not_work_with_from_failed(shell: Shell, failed: str) -> None:
    done = shell.run("rerun", failed, "--from-failed", "--input", "1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("--from-failed does not work with --input: ")


def test_the_list_of_runs_marks_reruns(shell: Shell, greeted: str) -> None:
    shell.run("rerun", greeted, "--run-id", "listed-again")
    lines = shell.run("runs", "--limit", "1").stdout.splitlines()
    assert lines[0].split()[-1] == "NOTE"
    assert lines[1].split()[0] == "listed-again"
    assert lines[1].endswith("2 succeeded  rerun of greeted")


def test_a_result_names_the_run_that_it_repeats(shell: Shell, failed: str) -> None:
    shell.run("rerun", failed, "--from-failed", "--run-id", "looked-at")
    done = shell.run("result", "looked-at")
    assert done.stderr.splitlines()[0] == "looked-at is a rerun of failed-once; 1 step taken over"


def test_an_unfinished_run_cannot_be_rerun(shell: Shell) -> None:
    shell.run("run", "holding", "--detach", "--run-id", "underway")
    done = shell.run("rerun", "underway")
    assert (done.returncode, done.stdout) == (2, "")
    assert "underway" in done.stderr
    shell.run("cancel", "underway")


def test_an_export_is_one_json_document_that_replays(shell: Shell, failed: str) -> None:
    done = shell.run("export", failed)
    assert (done.returncode, done.stderr) == (0, "")
    exported = RunExport.from_json(done.stdout)
    assert exported.run_id == failed
    replay(exported)


def test_an_export_is_written_to_a_file_with_to(shell: Shell, failed: str, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    done = shell.run("export", failed, "--to", str(file))
    exported = RunExport.load(file)
    assert (done.stdout, done.stderr) == ("", f"wrote {file}: {failed}, {len(exported.events)} events\n")


def test_an_export_file_that_cannot_be_written_is_named(shell: Shell, failed: str, tmp_path: Path) -> None:
    done = shell.run("export", failed, "--to", str(tmp_path / "no" / "run.json"))
    assert done.returncode == 2
    assert done.stderr.startswith(f"cannot write {tmp_path}/no/run.json: ")


def test_runs_are_deleted_by_their_ids_or_prefixes(shell: Shell) -> None:
    for run_id in ("old-one", "old-two"):
        shell.run("run", "labelled", "--run-id", run_id)
    done = shell.run("delete", "old-o", "old-two", "old-one")
    assert (done.returncode, done.stderr) == (0, "deleted old-one\ndeleted old-two\n")
    assert shell.run("result", "old-two").returncode == 2


def test_nothing_is_deleted_if_one_of_the_runs_is_unknown(shell: Shell) -> None:
    shell.run("run", "labelled", "--run-id", "not-deleted")
    assert shell.run("delete", "not-deleted", "nowhere").returncode == 2
    assert shell.run("result", "not-deleted").returncode == 0


def test_an_unfinished_run_is_not_deleted(shell: Shell) -> None:
    shell.run("run", "holding", "--detach", "--run-id", "undeleted")
    shell.run("run", "labelled", "--run-id", "deleted-run")
    done = shell.run("delete", "undeleted", "deleted-run")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines == ["deleted deleted-run", "undeleted has not ended; cancel it first: stepwave cancel undeleted"]
    shell.run("cancel", "undeleted")


def test_export_overwrites_a_file_only_by_force(shell: Shell, greeted: str, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text("precious")
    refused = shell.run("export", greeted, "--to", str(file))
    assert (refused.returncode, file.read_text()) == (2, "precious")
    assert "overwrite it with --force" in refused.stderr
    assert shell.run("export", greeted, "--to", str(file), "--force").returncode == 0
    assert RunExport.load(file).run_id == greeted


@pytest.mark.parametrize("options", [(), ("--force",)])
def test_export_does_not_take_a_folder_for_a_file(
    shell: Shell, greeted: str, tmp_path: Path, options: tuple[str, ...]
) -> None:
    done = shell.run("export", greeted, "--to", str(tmp_path), *options)
    assert (done.returncode, done.stderr) == (2, f"{tmp_path} is a folder\n")


def test_export_to_a_device_needs_no_force(shell: Shell, greeted: str) -> None:
    done = shell.run("export", greeted, "--to", "/dev/stdout")
    assert (done.returncode, RunExport.from_json(done.stdout).run_id) == (0, greeted)


@pytest.mark.parametrize("command", ["report", "export", "watch", "result", "rerun"])
def test_every_command_for_an_ended_run_takes_last(shell: Shell, command: str) -> None:
    shell.run("run", "labelled", "--run-id", f"last-for-{command}")
    assert shell.run(command, "@last").returncode == 0


def test_last_needs_a_run() -> None:
    with serving() as (address, _):
        done = Shell(address).run("result", "@last")
    assert (done.returncode, done.stderr) == (2, "the server has no runs\n")


def test_last_is_the_newest_run(shell: Shell, greeted: str) -> None:
    shell.run("rerun", greeted, "--run-id", "newest")
    assert json.loads(shell.run("result", "@last", "--output", "json").stdout)["run_id"] == "newest"
