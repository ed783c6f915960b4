"""`stepwave watch`, `result` and `cancel`: one run, named by its id or the beginning of it."""

import json
import signal

from integration.cli.shell import Shell


def detached(shell: Shell, name: str, run_id: str) -> str:
    """Start a run and return its id."""
    return shell.run("run", name, "--detach", "--run-id", run_id, "--input", '{"name": "ann"}').stdout.strip()


def test_an_ended_run_is_shown_from_its_beginning(shell: Shell) -> None:
    detached(shell, "greeting", "shown-again")
    done = shell.run("watch", "shown-again")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"twice": ["ANN", "ANN"]})
    assert "shown-again: greeting, 2 steps in 2 waves" in done.stderr.splitlines()[0]


def test_the_exit_code_is_the_runs(shell: Shell) -> None:
    detached(shell, "failing", "watched-failing")
    assert shell.run("watch", "watched-failing").returncode == 1


def test_an_interrupt_leaves_the_run_running(shell: Shell) -> None:
    detached(shell, "holding", "left-alone")
    with shell.start("watch", "left-alone") as started:
        started.wait_for_error("holding")
        started.process.send_signal(signal.SIGINT)
        code, out, err = started.end()
    assert (code, out) == (0, "")
    assert err.endswith("left left-alone running; come back: stepwave watch left-alone\n")
    assert shell.run("result", "left-alone").stderr == "left-alone has not ended; see it: stepwave watch left-alone\n"
    shell.run("cancel", "left-alone")


def test_a_watcher_sees_the_run_being_cancelled(shell: Shell) -> None:
    detached(shell, "holding", "ended-elsewhere")
    with shell.start("watch", "ended-elsewhere") as started:
        started.wait_for_error("holding")
        shell.run("cancel", "ended-elsewhere", "--reason", "enough")
        code, _, err = started.end()
    assert code == 130
    assert "■ run: cancelled: enough" in err


def test_a_beginning_that_only_one_run_has_is_enough(shell: Shell) -> None:
    detached(shell, "greeting", "alpha-one")
    assert shell.run("watch", "alph").returncode == 0


def test_an_id_is_enough_though_others_begin_so(shell: Shell) -> None:
    detached(shell, "greeting", "beta")
    detached(shell, "greeting", "beta-two")
    assert shell.run("result", "beta").returncode == 0


def test_a_beginning_of_several_ids_lists_them(shell: Shell) -> None:
    detached(shell, "greeting", "gamma-one")
    detached(shell, "greeting", "gamma-two")
    done = shell.run("watch", "gamma")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[0] == '"gamma" begins the ids of several runs:'
    assert [line.split()[0] for line in lines[1:]] == ["gamma-two", "gamma-one"]


def test_a_beginning_of_no_id_is_refused(shell: Shell) -> None:
    for command in ("watch", "result", "cancel"):
        done = shell.run(command, "nowhere")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == 'no run\'s id begins with "nowhere"; these there are: stepwave runs\n'


def test_a_result_has_the_outputs_and_the_failures_with_tracebacks(shell: Shell) -> None:
    detached(shell, "failing", "looked-up")
    done = shell.run("result", "looked-up")
    assert (done.returncode, json.loads(done.stdout)) == (1, {"aside": 2})
    assert '    raise LookupError("no such thing")\n' in done.stderr


def test_a_result_as_json_has_everything(shell: Shell) -> None:
    detached(shell, "failing", "looked-into")
    result = json.loads(shell.run("result", "looked-into", "--output", "json").stdout)
    assert (result["state"], result["failure_count"]) == ("failed", 1)
    assert result["steps"]["after"]["skip_reason"] == {"cause": "dependency", "step_id": "broken"}


def test_cancelling_again_says_that_it_has_ended(shell: Shell) -> None:
    detached(shell, "greeting", "over")
    shell.run("watch", "over")
    done = shell.run("cancel", "over")
    assert (done.returncode, done.stderr) == (0, "over has ended already: succeeded\n")
