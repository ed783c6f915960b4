"""The example of a chat: the words of a model reach the terminal while another step runs."""

import os
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "client" / "examples" / "chat"


def test_the_words_of_the_model_are_printed_while_another_step_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLE / "chat.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONWARNINGS": "error", "http_proxy": "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answer, words = done.stdout.splitlines()
    weather = " [tomorrow: sun, 21 °C]"
    assert answer.replace(weather, "") == "Hornindalsvatnet is the deepest lake here, with a depth of 514 m."
    assert not answer.endswith(weather), "the weather came while the model was speaking"
    assert words == "12 words"
