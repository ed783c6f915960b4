"""What commands run: workflows of standard input, changes for one run, and the remedy for a wrong path or address."""

import json
from pathlib import Path

import pytest

from integration.cli.shell import Shell


def test_a_workflow_is_read_from_standard_input(local_shell: Shell) -> None:
    text = "name: piped\nsteps:\n- {id: a, action: core.echo, input: {n: 1}}\n"
    done = local_shell.run("run", "-", "--local", stdin=text)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"a": {"n": 1}})


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_workflow_on_standard_input_may_be_json_in_any_locale(encoding: str) -> None:
    data = '{"name": "piped",\t"steps": [{"id": "a", "action": "core.echo", "input": "é"}]}'.encode(encoding)
    done = Shell().pipe(data, "run", "-", "--local", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"a": "é"})


def test_standard_input_that_is_not_text_is_refused() -> None:
    done = Shell().pipe(b"name: \xff\xfe", "plan", "-", "--local")
    assert (done.returncode, done.stderr) == (2, b"standard input is not UTF-8\n")


def test_closed_standard_input_is_an_empty_workflow(local_shell: Shell) -> None:
    done = local_shell.redirect("<&-", "plan", "-", "--local")
    assert done.returncode == 2
    assert done.stderr.startswith("-:1:1: empty: ")


def test_standard_input_is_not_both_the_workflow_and_its_input(local_shell: Shell) -> None:
    done = local_shell.run("run", "-", "--local", "--input", "@-", stdin="name: piped")
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot be both" in done.stderr


def test_a_problem_of_standard_input_is_placed(local_shell: Shell) -> None:
    done = local_shell.run("run", "-", "--local", stdin="name: piped\nsteps: 3\n")
    assert done.returncode == 2
    assert done.stderr.startswith("error: -:2:8: steps:") or "-:2:8: steps:" in done.stderr


def test_a_python_file_is_not_a_workflow_and_the_error_says_what_to_give(local_shell: Shell) -> None:
    done = local_shell.run("run", "tools.py")
    assert done.returncode == 2
    assert done.stderr == (
        "tools.py is a Python file, not a workflow file; run a workflow with its actions: "
        "stepwave run FILE.yaml --actions tools\n"
    )


@pytest.mark.parametrize("path", ["gone.py", "../cli/tools.py"])
def test_a_python_file_that_cannot_be_imported_by_name_gets_no_name(local_shell: Shell, path: str) -> None:
    done = local_shell.run("plan", path)
    assert done.returncode == 2
    assert done.stderr.endswith("stepwave run FILE.yaml --actions MODULE\n")


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_server_is_not_a_url(local_shell: Shell, command: str) -> None:
    done = local_shell.run(command, "flows/greeting.yaml", "--server", "http://localhost:50051")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "an address is HOST:PORT or unix:PATH, without http://; write 'localhost:50051'\n"


def test_labels_and_parallelism_are_changed_for_one_run(shell: Shell) -> None:
    done = shell.run(
        "run", "flows/labelled.yaml", "--label", "team=other", "--label", "new=1", "--max-parallelism", "1"
    )
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(shell.run("runs", "--label", "new=1", "--output", "json").stdout)
    assert run["labels"]["team"] == "other"
    exported = json.loads(shell.run("export", run["run_id"]).stdout)
    assert exported["definition"]["workflow"]["max_parallelism"] == 1


@pytest.mark.parametrize("number", ["0", "-1", "4294967296"])
def test_a_parallelism_that_the_contract_cannot_hold_is_refused(local_shell: Shell, number: str) -> None:
    done = local_shell.run("run", "flows/labelled.yaml", "--local", "--max-parallelism", number)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--max-parallelism" in done.stderr


def test_a_workflow_of_the_server_is_not_changed(shell: Shell) -> None:
    done = shell.run("run", "greeting", "--label", "team=other")
    assert done.returncode == 2
    assert "--label changes a workflow file; greeting is a workflow of the server" in done.stderr


@pytest.mark.parametrize("path", ["tools.py", "./tools", "./tools.py"])
def test_a_path_in_place_of_a_module_is_answered_with_the_module(local_shell: Shell, path: str) -> None:
    done = local_shell.run("run", "flows/greeting.yaml", "--actions", path)
    assert done.returncode == 2
    assert done.stderr == f"'{path}' is a path; give the name of the module: tools\n"


def test_a_path_outside_the_working_directory_is_answered_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "far.py").touch()
    (tmp_path / "here").mkdir()
    shell = Shell(folder=tmp_path / "here")
    for path in ("../far.py", "../far", f"{tmp_path}/far.py"):
        done = shell.run("actions", "--actions", path)
        assert done.returncode == 2
        assert done.stderr == (
            f"'{path}' is a path outside the working directory; start the command in {tmp_path}, "
            "and give the name of the module: far\n"
        )


def test_a_path_of_a_package_is_answered_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    (tmp_path / "outer" / "inner" / "__init__.py").touch()
    for path in ("outer/inner", "./outer/inner/", "outer/inner/__init__.py", f"{tmp_path}/outer/inner"):
        done = Shell(folder=tmp_path).run("actions", "--actions", path)
        assert done.stderr == f"'{path}' is a path; give the name of the module: outer.inner\n"


@pytest.mark.parametrize("path", ["nothing.py", "./nothing"])
def test_a_path_without_a_module_says_so(local_shell: Shell, path: str) -> None:
    done = local_shell.run("actions", "--actions", path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"'{path}' is a path, and there is no such module; ")


def test_a_module_that_parses_arguments_is_an_error_with_its_own_line(tmp_path: Path) -> None:
    (tmp_path / "parses.py").write_text("import argparse\nargparse.ArgumentParser().parse_args(['--no'])\n")
    done = Shell(folder=tmp_path).run("actions", "--actions", "parses")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == (
        f"module 'parses' cannot be imported: SystemExit: 2 ({tmp_path}/parses.py:2)"
    )


def test_a_module_that_exits_keeps_a_server_from_starting(tmp_path: Path) -> None:
    (tmp_path / "leaves.py").write_text("raise SystemExit\n")
    done = Shell(folder=tmp_path).run("serve", "--listen", "127.0.0.1:0", "--actions", "leaves")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"module 'leaves' cannot be imported: SystemExit ({tmp_path}/leaves.py:1)\n")


def test_a_module_that_exits_is_an_error_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(0)\n")
    flow = tmp_path / "flow.yaml"
    flow.write_text("name: any\nsteps: [{id: a, action: core.echo}]\n")
    done = Shell(folder=tmp_path).run("run", str(flow), "--actions", "leaves")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"module 'leaves' cannot be imported: SystemExit: 0 ({tmp_path}/leaves.py:2)\n"


DIGITS = """name: digits
steps:
- {id: a, action: core.echo, input: {given: {$input: ""}, own: [2.50, -0]}}
"""


@pytest.mark.parametrize("option", ["--local", "--raw"])
def test_numbers_keep_their_digits_from_the_input_to_the_output(shell: Shell, tmp_path: Path, option: str) -> None:
    (tmp_path / "digits.yaml").write_text(DIGITS)
    given = '{"n": [1.10, 0.1234567890123456789, 1E2, 1e-7]}'
    done = shell.run("run", str(tmp_path / "digits.yaml"), "--input", given, option)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout, parse_float=str, parse_int=str)
    value = found["a"] if option == "--local" else found
    assert value == {"given": {"n": ["1.10", "0.1234567890123456789", "1E2", "1e-7"]}, "own": ["2.50", "-0"]}


def test_a_duplicate_key_of_the_input_is_a_usage_error(local_shell: Shell) -> None:
    done = local_shell.run("run", "flows/greeting.yaml", "--local", "--input", '{"a": [{"n": 1, "n": 2}]}')
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == '--input: holds the key "n" twice, in the object at "/a/0"\n'
