"""Configuration on the command line: `--config`, `stepwave config` and `stepwave serve --check`."""

import json
from pathlib import Path

import pytest

from integration.cli.shell import Shell

ACTIONS = "from stepwave import action\n\n\n@action\ndef greet() -> str:\n    return 'hello'\n"
FLOW = "name: flow\nsteps: [{id: a, action: greet}]\n"
CONFIG = """\
actions = ["acts"]
workflows = "flows"
limits = "limits.yaml"
journal = "sqlite:data/runs.db"
max-runs = 50

[keep]
age = "7d"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a module, and with a configuration in a folder of its own."""
    (tmp_path / "acts.py").write_text(ACTIONS)
    (tmp_path / "etc" / "flows").mkdir(parents=True)
    (tmp_path / "etc" / "stepwave.toml").write_text(CONFIG)
    (tmp_path / "etc" / "limits.yaml").write_text("limits: [{actions: greet, concurrency: 2}]\n")
    (tmp_path / "etc" / "flows" / "flow.yaml").write_text(FLOW)
    return tmp_path


@pytest.fixture
def quiet(folder: Path) -> Shell:
    """Return a shell in the folder, without a journal in its environment."""
    return Shell(folder=folder)


NO_JOURNAL = {"STEPWAVE_JOURNAL": ""}
FILE = ("--config", "etc/stepwave.toml")


def test_a_server_has_what_its_file_names(folder: Path) -> None:
    with Shell(folder=folder).start("serve", *FILE, "--listen", "127.0.0.1:0", STEPWAVE_JOURNAL="") as server:
        shell = Shell(server.wait_for_output(":").strip(), folder=folder)
        assert server.wait_for_error("settings").endswith("stepwave config --config etc/stepwave.toml\n")
        assert json.loads(shell.run("run", "flow", "--output", "result").stdout)["a"] == "hello"
        assert "greet: 0 of 2 at once" in shell.run("actions").stdout
    assert (folder / "etc" / "data" / "runs.db").exists()


def test_the_environment_names_the_file_too(quiet: Shell) -> None:
    done = quiet.run("config", "--output", "json", STEPWAVE_CONFIG="etc/stepwave.toml")
    assert json.loads(done.stdout)["max_runs"]["value"] == 50


def test_no_file_is_read_that_is_not_named(folder: Path) -> None:
    (folder / "stepwave.toml").write_text("max_runs = 50\n")
    done = Shell(folder=folder).run("config", "--output", "json")
    assert json.loads(done.stdout)["max_runs"] == {"value": 10_000, "source": "default", "from": None, "used": True}


def test_it_shows_each_value_and_its_origin(quiet: Shell) -> None:
    done = quiet.run("config", *FILE, "--max-steps", "7", "--no-tracebacks", STEPWAVE_HEARTBEAT="20s", **NO_JOURNAL)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split(maxsplit=3) for line in done.stdout.splitlines() if line.startswith("*")]
    assert rows == [
        ["*", "actions", "acts", "etc/stepwave.toml:1: actions"],
        ["*", "workflows", "etc/flows", "etc/stepwave.toml:2: workflows"],
        ["*", "limits", "etc/limits.yaml", "etc/stepwave.toml:3: limits"],
        ["*", "journal", "sqlite:etc/data/runs.db", "etc/stepwave.toml:4: journal"],
        ["*", "tracebacks", "false", "--no-tracebacks"],
        ["*", "heartbeat", "20s", "STEPWAVE_HEARTBEAT"],
        ["*", "max_runs", "50", "etc/stepwave.toml:5: max-runs"],
        ["*", "max_steps", "7", "--max-steps"],
        ["*", "keep_age", "7d", "etc/stepwave.toml:8: keep.age"],
    ]
    assert ["listen", "127.0.0.1:50051", "default"] in [line.split() for line in done.stdout.splitlines()]
    assert "\n[keep]\n  keep_runs   10000  default\n" in done.stdout


def test_an_option_replaces_the_list_of_the_file(quiet: Shell) -> None:
    done = quiet.run("config", *FILE, "--actions", "one", "--actions", "two", "--output", "json")
    assert json.loads(done.stdout)["actions"] == {
        "value": ["one", "two"],
        "source": "option",
        "from": "--actions",
        "used": True,
    }


def test_settings_of_the_other_engine_are_shown_as_not_used(local_shell: Shell) -> None:
    done = local_shell.run("config", STEPWAVE_ENGINE="temporal", **NO_JOURNAL)
    assert "  keep_runs   10000  default, not used\n" in done.stdout
    assert "  temporal_wait               0s              default\n" in done.stdout


@pytest.mark.parametrize("output", ["text", "json"])
def test_passwords_are_masked(local_shell: Shell, output: str) -> None:
    secret = "rediss://user:hunter2@host:6379/0?password=hunter3"
    options = ("--engine", "temporal", "--chunks", secret, "--output", output)
    done = local_shell.run("config", *options, **NO_JOURNAL)
    assert done.returncode == 0
    assert "rediss://user:***@host:6379/0?password=***" in done.stdout
    assert "hunter" not in done.stdout


def test_in_60_columns_nothing_is_cut_off(quiet: Shell) -> None:
    done = quiet.run("config", *FILE, COLUMNS="60", STEPWAVE_MAX_PAYLOAD_BYTES="64KiB", **NO_JOURNAL)
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 60
    journal = [line.split() for line in lines].index(["*", "journal", "sqlite:etc/data/runs.db"])
    assert lines[journal + 1] == "      etc/stepwave.toml:4: journal"
    words = [line.split() for line in lines]
    assert lines[words.index(["*", "max_runs", "50"]) + 1] == "      etc/stepwave.toml:5: max-runs"
    assert lines[words.index(["*", "max_payload_bytes", "64KiB"]) + 1] == "      STEPWAVE_MAX_PAYLOAD_BYTES"


def test_a_misspelt_variable_is_warned_of(folder: Path) -> None:
    shell, warning = Shell(folder=folder), "STEPWAVE_MAX_RUN is no setting; did you mean STEPWAVE_MAX_RUNS?"
    for command in (("config",), ("serve", "--check")):
        done = shell.run(*command, STEPWAVE_MAX_RUN="5")
        assert (done.returncode, done.stderr) == (0, f"warning: {warning}\n")
    with shell.start("serve", "--listen", "127.0.0.1:0", STEPWAVE_MAX_RUN="5") as server:
        assert server.wait_for_error(warning)


def test_a_check_says_what_was_checked(quiet: Shell, folder: Path) -> None:
    done = quiet.run("serve", "--check", *FILE, **NO_JOURNAL)
    places = "address 127.0.0.1:50051, journal etc/data/runs.db"
    summary = f"ok: etc/stepwave.toml, 8 actions, 1 named workflow, 1 limit, {places}\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, summary, "")
    assert not (folder / "etc" / "data").exists()


def test_a_check_lists_the_problems_of_all_files_and_options(quiet: Shell, folder: Path) -> None:
    (folder / "etc" / "stepwave.toml").write_text(CONFIG.replace("acts", "nowhere").replace("max-runs", "max-rnus"))
    (folder / "etc" / "limits.yaml").write_text("limits: 3\n")
    (folder / "etc" / "flows" / "flow.yaml").write_text(
        "name: flow\nsteps: [{id: a, action: greet, depends_on: [b]}]\n"
    )
    done = quiet.run(
        "serve", "--check", *FILE, "--step-timeout", "soon", "--listen", "here", STEPWAVE_JOURNAL="sqlite:/dev/null/x"
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "etc/stepwave.toml:5: max-rnus: unknown key; did you mean max_runs?",
        '--step-timeout: "soon" is not a duration such as 300ms, 5s, 1m30s or 90',
        "no module named 'nowhere' (looked in the working directory and installed packages)",
        "etc/limits.yaml:1:1: limits: expected a list of limits, got the number 3",
        'etc/flows/flow.yaml:2:45: steps[0].depends_on[0]: unknown step "b"',
        "'here' is not an address: expected HOST:PORT, such as 127.0.0.1:50051, or unix:PATH",
        "cannot open the journal /dev/null/x: Not a directory: /dev/null is a file",
    ]


def test_a_check_refuses_a_socket_without_its_folder(local_shell: Shell, tmp_path: Path) -> None:
    done = local_shell.run("serve", "--check", "--listen", f"unix:{tmp_path}/none/s")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"cannot listen at unix:{tmp_path}/none/s: there is no folder {tmp_path}/none\n"


def test_a_check_with_temporal_connects_to_nothing(local_shell: Shell) -> None:
    options = ("--engine", "temporal", "--temporal-address", "127.0.0.1:1", "--chunks", "redis://127.0.0.1:1")
    done = local_shell.run("serve", "--check", *options, **NO_JOURNAL)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("address 127.0.0.1:50051, Temporal's address 127.0.0.1:1\n")


def test_a_check_with_temporal_refuses_malformed_addresses(local_shell: Shell) -> None:
    options = ("--engine", "temporal", "--temporal-address", "here", "--chunks", "redis://u:hunter2@host:x")
    done = local_shell.run("serve", "--check", *options, **NO_JOURNAL)
    assert (done.returncode, done.stdout) == (2, "")
    first, second = done.stderr.splitlines()
    assert first == "'here' is not the address of Temporal: expected HOST:PORT"
    assert second.startswith("the address for chunks and logs, redis://host:x, is malformed")


@pytest.mark.parametrize("command", [("serve",), ("config",), ("host", "acts"), ("backup", "copy.db")], ids=str)
def test_an_invalid_file_is_refused_by_every_command_that_reads_it(
    quiet: Shell, folder: Path, command: tuple[str, ...]
) -> None:
    (folder / "etc" / "stepwave.toml").write_text("max_rnus = 1\nmax_steps = 0\n")
    done = quiet.run(*command, *FILE)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "etc/stepwave.toml:1: max_rnus: unknown key; did you mean max_runs?",
        "etc/stepwave.toml:2: max_steps: Input should be greater than or equal to 1",
    ]


def test_a_setting_of_the_other_engine_in_the_file_is_refused_with_its_line(quiet: Shell, folder: Path) -> None:
    (folder / "etc" / "stepwave.toml").write_text('[temporal]\naddress = "127.0.0.1:1"\n')
    done = quiet.run("serve", *FILE)
    assert (done.returncode, done.stderr) == (
        2,
        "etc/stepwave.toml:2: temporal.address: it is for --engine temporal\n",
    )


def test_a_backup_finds_the_journal_of_the_file(quiet: Shell, folder: Path) -> None:
    with quiet.start("serve", *FILE, "--listen", "127.0.0.1:0", STEPWAVE_JOURNAL="") as server:
        server.wait_for_output(":")
        done = quiet.run("backup", "copy.db", *FILE, **NO_JOURNAL)
    assert done.returncode == 0
    assert "a copy of etc/data/runs.db" in done.stderr


def test_a_host_takes_the_file_of_a_server(quiet: Shell, folder: Path) -> None:
    """Its actions are those of the file, and the settings of servers alone are accepted."""
    (folder / "etc" / "stepwave.toml").write_text(
        'engine = "local"\nactions = ["acts"]\nworkflows = "flows"\nmax_runs = 5\n[temporal]\naddress = "127.0.0.1:1"\n'
    )
    done = quiet.run("host", *FILE)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == "Temporal at 127.0.0.1:1 did not answer: Connection refused"


def test_a_check_with_temporal_reads_the_files_of_its_connection(folder: Path) -> None:
    (folder / "ca.pem").write_text("garbage")
    options = ("--engine", "temporal", "--temporal-tls", "--temporal-tls-ca", "ca.pem")
    done = Shell(folder=folder).run("serve", "--check", *options, **NO_JOURNAL)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ca.pem has no certificates of an authority: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", [("config",), ("serve", "--check")], ids=["config", "check"])
def test_the_api_key_for_temporal_is_not_shown(folder: Path, command: tuple[str, ...]) -> None:
    (folder / "etc" / "stepwave.toml").write_text('engine = "temporal"\n[temporal]\ntls = true\napi_key_file = "key"\n')
    (folder / "etc" / "key").write_text("hunter2\n")
    done = Shell(folder=folder).run(*command, *FILE, **NO_JOURNAL)
    assert (done.returncode, done.stderr) == (0, "")
    assert "hunter2" not in done.stdout
    assert ("etc/key" in done.stdout) == (command == ("config",))


def test_a_check_of_a_host_says_what_was_checked_and_connects_to_nothing(folder: Path) -> None:
    (folder / "rates.yaml").write_text("limits: [{actions: greet, rate: 2/s}]\n")
    options = ("--temporal-address", "127.0.0.1:1", "--limits", "rates.yaml", "--health", "127.0.0.1:2")
    done = Shell(folder=folder).run("host", "acts", "--check", *options, STEPWAVE_ENTRY_POINTS="false")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "ok: 1 action, 1 limit, health checks at 127.0.0.1:2, Temporal's address 127.0.0.1:1\n"


def test_a_check_of_a_host_lists_all_problems(folder: Path) -> None:
    (folder / "limits.yaml").write_text("limits: [{actions: greet, concurrency: 2}]\n")
    options = ("--limits", "limits.yaml", "--health", "here", "--metrics-listen", "0.0.0.0:1", "--slots", "0")
    more = ("--temporal-address", "there", "--temporal-tls", "--temporal-tls-ca", "none.pem")
    done = Shell(folder=folder).run("host", "nowhere", "--check", *options, *more)
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == [
        "--slots",
        "no module named 'nowhere' (looked in the working directory and installed packages)",
        'the limit "greet"',
        "'here' is not an address",
        "0.0.0.0",
        "'there' is not the address of Temporal",
        "none.pem",
    ]


def test_a_check_of_a_host_without_actions_says_so(folder: Path) -> None:
    done = Shell(folder=folder).run("host", "--check", STEPWAVE_ENTRY_POINTS="false")
    assert (done.returncode, done.stderr) == (2, "there are no actions to host: name a module with actions\n")
