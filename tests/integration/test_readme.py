"""The examples of the README work as written."""

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_first_example_runs_as_written(tmp_path: Path) -> None:
    script = tmp_path / "first.py"
    script.write_text(blocks("python")[0])
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "rain in Oslo; Oslo opens a library\n", done.stderr


def test_the_workflow_file_runs_with_the_first_examples_actions(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(blocks("python")[0].split("flow = ")[0])
    (tmp_path / "flow.yaml").write_text(blocks("yaml")[0])
    command = ["run", "flow.yaml", "--actions", "tools", "--input", '{"city": "Oslo"}', "--output", "result"]
    stepwave = Path(sys.executable).with_name("stepwave")
    done = subprocess.run([stepwave, *command], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert '"rain in Oslo; Oslo opens a library"' in done.stdout, done.stderr


def test_the_test_of_a_workflow_passes_as_written(tmp_path: Path) -> None:
    (example,) = [block for block in blocks("python") if block.startswith("# test_briefing.py")]
    (tmp_path / "test_briefing.py").write_text(example)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_the_commands_work_in_the_order_in_which_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(blocks("python")[0].split("flow = ")[0])
    (tmp_path / "flow.yaml").write_text(blocks("yaml")[0])
    (tmp_path / "input.json").write_text('{"city": "Oslo"}')
    (block,) = [block for block in blocks("sh") if "stepwave watch @last" in block]
    lines = [line.split("#")[0].strip() for line in block.splitlines()]
    serve = lines.index("stepwave serve --actions tools")
    assert len(lines) > serve + 5
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "STEPWAVE_JOURNAL": f"sqlite:{tmp_path}/journal.db",
        "STEPWAVE_LISTEN": "127.0.0.1:0",
    }

    def run(line: str, **more: str) -> None:
        done = subprocess.run(
            ["bash", "-ec", line],
            cwd=tmp_path,
            env={**environment, **more},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{line}: {done.stderr}"

    for line in lines[:serve]:
        run(line)
    with subprocess.Popen(
        ["stepwave", *lines[serve].split()[1:]],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            for line in lines[serve + 1 :]:
                run(line, STEPWAVE_SERVER=address)
        finally:
            server.terminate()
    assert (tmp_path / "run.json").exists()
    assert (tmp_path / "copy.db").exists()
