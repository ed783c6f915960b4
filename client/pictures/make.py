"""Makes the pictures of the README, with the workflow of `examples/deep_research`: `make pictures`.

- `survives.gif`: a run survives `kill -9` of its server. This needs tmux, and a font such as DejaVu Sans Mono.
- The screens: the blocks of README.md that begin with a command, such as `$ stepwave why @last`.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from recording import recording

HERE = Path(__file__).parent
README = HERE.parents[1] / "README.md"
EXAMPLE = HERE.parent / "examples" / "deep_research"
BIN = Path(sys.executable).parent
STEPWAVE = str(BIN / "stepwave")
INPUT = '{"question": "why are fjords deep?"}'
WIDTH = 90
_SCREEN = re.compile(r"```\n\$ (?P<command>[^\n]*)\n.*?```", re.DOTALL)


def environment(folder: str) -> dict[str, str]:
    """Return an environment in which a server keeps its journal in a folder."""
    settings = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "STEPWAVE_JOURNAL": f"sqlite:{folder}/journal.db",
        "COLUMNS": str(WIDTH),
        "PS1": "$ ",
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
    }
    return {**{name: value for name, value in os.environ.items() if not name.startswith("STEPWAVE_")}, **settings}


def record(cast: Path, folder: str) -> None:
    """Record how a run survives a kill of its server."""
    with recording(cast, EXAMPLE, environment(folder), columns=WIDTH, upper=26, lower=6) as (upper, lower):
        lower.type("stepwave serve --actions tools 2>/dev/null &")
        lower.wait_for("127.0.0.1")
        lower.type("")  # a new prompt
        upper.type(f"stepwave run research.yaml --input '{INPUT}'")
        upper.wait_for("67%")
        lower.type("kill -9 $!")
        upper.wait_for("gone for 2 s, reconnecting")
        lower.type("stepwave serve --actions tools 2>/dev/null &")
        upper.wait_for('"write": ')


@contextmanager
def server(settings: dict[str, str]) -> Iterator[str]:
    """Run a server with the example's actions, and yield its address."""
    command = [STEPWAVE, "serve", "--listen", "127.0.0.1:0", "--actions", "tools", "--log-level", "error"]
    with subprocess.Popen(command, cwd=EXAMPLE, env=settings, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def screens(folder: str) -> dict[str, str]:
    """Return the output of each command that the README shows."""
    with server(environment(folder)) as address:
        settings = {**environment(folder), "STEPWAVE_SERVER": address}

        def output(*arguments: str) -> str:
            command = [STEPWAVE, *arguments]
            done = subprocess.run(command, cwd=EXAMPLE, env=settings, stdout=subprocess.PIPE, text=True, check=True)
            return done.stdout

        run = ["run", "research.yaml", "--input", INPUT, "--run-id", "fjords", "--max-parallelism", "3"]
        output(*run, "--detach")
        with subprocess.Popen(
            [STEPWAVE, "watch", "fjords", "--output", "json"], env=settings, stdout=subprocess.PIPE, text=True
        ) as watch:
            assert watch.stdout is not None
            for event in watch.stdout:
                if '"read-web"' in event and '"step_started"' in event:
                    break
            else:
                raise RuntimeError("the step read-web did not start")
            why = output("why", "@last")
            watch.stdout.read()
        return {"stepwave why @last": why, "stepwave report @last": output("report", "@last")}


def with_screens(text: str, outputs: dict[str, str]) -> str:
    """Replace the screens in a document."""

    def replaced(match: "re.Match[str]") -> str:
        return f"```\n$ {match['command']}\n{outputs[match['command']].rstrip()}\n```"

    return _SCREEN.sub(replaced, text)


def main() -> None:
    """Make the recording, and put the screens into the README."""
    for tool in ("tmux", str(BIN / "agg")):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not installed")
    with TemporaryDirectory() as folder:
        cast = Path(folder) / "survives.cast"
        record(cast, folder)
        options = ["--font-family", "DejaVu Sans Mono", "--theme", "github-dark", "--fps-cap", "10"]
        command = [str(BIN / "agg"), *options, str(cast), str(HERE / "survives.gif")]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    with TemporaryDirectory() as folder:
        README.write_text(with_screens(README.read_text("utf-8"), screens(folder)), "utf-8")


if __name__ == "__main__":
    main()
