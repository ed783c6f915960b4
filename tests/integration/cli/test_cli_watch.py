"""`stepwave watch`, `result` and `cancel`: one run, by its id or a prefix of it."""

import json
import signal

from integration.cli.shell import Shell


def start_detached(shell: Shell, name: str, run_id: str) -> str:
    """Start a detached run and return its id."""
    return shell.run("run", name, "--detach", "--run-id", run_id, "--input", '{"name": "ann"}').stdout.strip()


def test_an_ended_run_is_shown_from_its_start(shell: Shell) -> None:
    start_detached(shell, "greeting", "shown-again")
    done = shell.run("watch", "shown-again")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"twice": ["ANN", "ANN"]})
    assert "shown-again: greeting, 2 steps in 2 waves" in done.stderr.splitlines()[0]


def test_the_exit_code_is_that_of_the_run(shell: Shell) -> None:
    start_detached(shell, "failing", "watched-failing")
    assert shell.run("watch", "watched-failing").returncode == 1


def test_a_run_continues_after_an_interrupt_of_the_watch(shell: Shell) -> None:
    start_detached(shell, "holding", "unwatched")
    with shell.start("watch", "unwatched") as started:
        started.wait_for_error("holding")
        started.process.send_signal(signal.SIGINT)
        code, out, err = started.end()
    assert (code, out) == (0, "")
    assert err.endswith("unwatched continues; to watch it again: stepwave watch unwatched\n")
    assert shell.run("result", "unwatched").stderr == "unwatched has not ended; see it: stepwave watch unwatched\n"
    shell.run("cancel", "unwatched")


def test_a_watcher_sees_the_run_being_cancelled(shell: Shell) -> None:
    start_detached(shell, "holding", "ended-elsewhere")
    with shell.start("watch", "ended-elsewhere") as started:
        started.wait_for_error("holding")
        shell.run("cancel", "ended-elsewhere", "--reason", "enough")
        code, _, err = started.end()
    assert code == 130
    assert "■ run: cancelled: enough" in err


def test_a_unique_prefix_names_a_run(shell: Shell) -> None:
    start_detached(shell, "greeting", "alpha-one")
    assert shell.run("watch", "alph").returncode == 0


def test_a_full_id_names_its_run_even_if_it_is_a_prefix_of_others(shell: Shell) -> None:
    start_detached(shell, "greeting", "beta")
    start_detached(shell, "greeting", "beta-two")
    assert shell.run("result", "beta").returncode == 0


def test_an_ambiguous_prefix_lists_its_runs(shell: Shell) -> None:
    start_detached(shell, "greeting", "gamma-one")
    start_detached(shell, "greeting", "gamma-two")
    done = shell.run("watch", "gamma")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[0] == 'several runs have an id that begins with "gamma":'
    assert [line.split()[0] for line in lines[1:]] == ["gamma-two", "gamma-one"]


def test_an_unknown_prefix_is_refused(shell: Shell) -> None:
    for command in ("watch", "result", "cancel"):
        done = shell.run(command, "nowhere")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == 'no run\'s id begins with "nowhere"; list the runs: stepwave runs\n'


def test_a_result_has_the_outputs_and_the_failures_with_tracebacks(shell: Shell) -> None:
    start_detached(shell, "failing", "looked-up")
    done = shell.run("result", "looked-up")
    assert (done.returncode, json.loads(done.stdout)) == (1, {"aside": 2})
    assert '    raise LookupError("no such thing")\n' in done.stderr


def test_as_json_the_whole_result_is_printed(shell: Shell) -> None:
    start_detached(shell, "failing", "looked-into")
    result = json.loads(shell.run("result", "looked-into", "--output", "json").stdout)
    assert (result["state"], result["failure_count"]) == ("failed", 1)
    assert result["steps"]["after"]["skip_reason"] == {"cause": "dependency", "step_id": "broken"}


def test_cancelling_an_ended_run_says_that_it_has_ended(shell: Shell) -> None:
    start_detached(shell, "greeting", "over")
    shell.run("watch", "over")
    done = shell.run("cancel", "over")
    assert (done.returncode, done.stderr) == (0, "over has already ended: succeeded\n")


def test_a_name_with_an_at_sign_that_is_not_last_names_no_run(shell: Shell) -> None:
    done = shell.run("watch", "@lst")
    expected = "@lst names no run: give an id, the beginning of one, or @last for the newest run\n"
    assert (done.returncode, done.stderr) == (2, expected)
