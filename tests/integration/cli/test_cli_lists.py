"""`stepwave runs`, `actions`, `plan`, `schema` and `--version`, as text and as JSON."""

import json
from importlib.metadata import version

import pytest

from integration.cli.shell import Shell
from stepwave._files.schema import workflow_schema

COMMANDS = ["init", "serve", "run", "rerun", "plan", "graph", "watch", "runs", "result", "cancel"]
COMMANDS += ["export", "delete", "backup", "actions", "workflows", "schema", "health"]


def test_runs_are_listed_newest_first(shell: Shell) -> None:
    for run_id in ("listed-one", "listed-two"):
        shell.run("run", "greeting", "--input", '{"name": "ann"}', "--run-id", run_id)
    lines = shell.run("runs", "--limit", "2").stdout.splitlines()
    assert lines[0].split() == ["RUN", "WORKFLOW", "STATE", "STARTED", "TIME", "STEPS"]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["listed-two", "greeting", "succeeded"],
        ["listed-one", "greeting", "succeeded"],
    ]
    assert lines[1].endswith("2 succeeded")


def test_a_list_that_reaches_its_limit_says_so(shell: Shell) -> None:
    for run_id in ("cut-one", "cut-two"):
        shell.run("run", "greeting", "--detach", "--run-id", run_id, "--input", '{"name": "ann"}')
    done = shell.run("runs", "--limit", "1")
    assert (len(done.stdout.splitlines()), done.stderr) == (2, "there are more runs; list them with --limit 10\n")


def test_runs_that_are_stopping_are_listed_apart(shell: Shell) -> None:
    shell.run("run", "flows/holding.yaml", "--detach", "--run-id", "held")
    with shell.start("run", "flows/uncancellable.yaml", "--run-id", "stuck") as run:
        run.wait_for_error("ignoring cancellation")
        shell.run("cancel", "stuck")
        stopping = json.loads(shell.run("runs", "--state", "stopping", "--output", "json").stdout)
        either = json.loads(shell.run("runs", "--state", "stopping", "--state", "running", "--output", "json").stdout)
    shell.run("cancel", "held")
    assert [run["run_id"] for run in stopping] == ["stuck"]
    assert [run["run_id"] for run in either][:2] == ["stuck", "held"]


def test_stopping_runs_are_found_behind_newer_runs_that_continue(shell: Shell) -> None:
    with shell.start("run", "flows/uncancellable.yaml", "--run-id", "behind") as run:
        run.wait_for_error("ignoring cancellation")
        shell.run("cancel", "behind")
        shell.run("run", "flows/holding.yaml", "--detach", "--run-id", "ahead")
        found = json.loads(
            shell.run(
                "runs", "--state", "stopping", "--workflow", "uncancellable", "--limit", "1", "--output", "json"
            ).stdout
        )
        mixed = json.loads(
            shell.run("runs", "--state", "stopping", "--state", "failed", "--limit", "1", "--output", "json").stdout
        )
    shell.run("cancel", "ahead")
    assert [run["run_id"] for run in found] == ["behind"]
    assert [run["run_id"] for run in mixed] == ["behind"]


def test_a_closed_pipe_is_no_error(shell: Shell) -> None:
    with shell.start("actions") as started:  # its output does not depend on the tests before
        assert started.process.stdout is not None
        assert started.process.stderr is not None
        started.process.stdout.close()
        assert started.process.stderr.read() == ""


def test_runs_are_filtered_by_workflow_and_state(shell: Shell) -> None:
    shell.run("run", "failing", "--run-id", "filtered")
    found = json.loads(shell.run("runs", "--workflow", "failing", "--state", "failed", "--output", "json").stdout)
    assert {(run["workflow_name"], run["state"]) for run in found} == {("failing", "failed")}
    assert json.loads(shell.run("runs", "--workflow", "nothing", "--output", "json").stdout) == []


def listed_ids(shell: Shell, *arguments: str) -> list[str]:
    """Return the ids of the listed runs."""
    return [run["run_id"] for run in json.loads(shell.run("runs", *arguments, "--output", "json").stdout)]


def test_runs_are_filtered_by_all_given_labels(shell: Shell) -> None:
    shell.run("run", "labelled", "--run-id", "with-labels")
    assert listed_ids(shell, "--label", "team=weather", "--label", "tier=")[0] == "with-labels"
    assert listed_ids(shell, "--label", "team=weather", "--label", "tier=1") == []


def test_runs_are_filtered_by_the_time_of_acceptance(shell: Shell) -> None:
    shell.run("run", "labelled", "--run-id", "timed")
    found = json.loads(shell.run("runs", "--output", "json").stdout)
    (accepted,) = [run["create_time"] for run in found if run["run_id"] == "timed"]
    assert "timed" in listed_ids(shell, "--since", "1h")
    assert "timed" in listed_ids(shell, "--since", accepted[:19] + "Z", "--until", "2999-01-01")
    assert "timed" not in listed_ids(shell, "--until", "1h")
    assert "timed" not in listed_ids(shell, "--until", accepted[:19] + "Z")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--label", "team"), '--label: "team" is not a label such as team=weather\n'),
        (("--since", "soon"), '--since: "soon" is neither a duration such as 2h or 7d, nor a time such as '),
        (("--state", "skipped"), "'skipped'"),
    ],
)
def test_an_invalid_filter_is_refused(shell: Shell, arguments: tuple[str, ...], message: str) -> None:
    done = shell.run("runs", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_actions_are_listed_with_their_inputs(shell: Shell) -> None:
    lines = shell.run("actions").stdout.splitlines()
    (line,) = [line for line in lines if line.startswith("shout")]
    assert line.split(maxsplit=3) == ["shout", "text", "tools:shout", "Return the text in capitals."]


def test_actions_of_a_module_need_no_server(local_shell: Shell) -> None:
    found = json.loads(local_shell.run("actions", "--actions", "tools", "--output", "json").stdout)
    (shout,) = [action for action in found if action["name"] == "shout"]
    assert shout["input_schema"]["properties"]["text"]["type"] == "string"


def test_a_plan_shows_the_wave_and_the_input_of_each_step(shell: Shell) -> None:
    assert shell.run("plan", "flows/greeting.yaml").stdout.splitlines() == [
        "greeting: 2 steps, 1 dependency, 2 waves, width 1",
        "",
        "wave 0",
        "  hello  shout",
        '      gets {"text": {"$input": "/name"}}',
        "",
        "wave 1",
        "  twice  core.echo",
        "      after hello",
        '      gets [{"$from": "hello"}, {"$from": "hello"}]',
        "",
        "outputs: twice",
    ]


def test_a_plan_needs_no_server_with_actions(local_shell: Shell) -> None:
    plan = json.loads(local_shell.run("plan", "flows/greeting.yaml", "--actions", "tools", "--output", "json").stdout)
    assert (plan["wave_sizes"], plan["outputs"]) == ([1, 1], ["twice"])


def test_a_plan_of_a_malformed_workflow_exits_with_2(local_shell: Shell) -> None:
    done = local_shell.run("plan", "flows/greeting.yaml", "--actions", "json.tool")
    assert (done.returncode, done.stdout) == (2, "")


def test_the_schema_is_printed_as_json(local_shell: Shell) -> None:
    assert json.loads(local_shell.run("schema").stdout) == workflow_schema()


def test_the_version_is_that_of_the_distribution(local_shell: Shell) -> None:
    assert local_shell.run("--version").stdout == f"stepwave {version('stepwave')}\n"


def test_every_command_has_help(local_shell: Shell) -> None:
    for command in COMMANDS:
        done = local_shell.run(command, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert f"stepwave {command}" in done.stdout


def test_without_a_server_lists_exit_with_3(local_shell: Shell) -> None:
    assert local_shell.run("runs", "--server", "unix:/nowhere/at/all").returncode == 3


def test_a_shell_completes_commands(local_shell: Shell) -> None:
    done = local_shell.run(_STEPWAVE_COMPLETE="complete_bash", COMP_WORDS="stepwave ru", COMP_CWORD="1")
    assert done.stdout.split() == ["run", "runs"]
