"""The programs in the sections of `proto/README.md` work, with the commands below them."""

import re
import shlex
from pathlib import Path

import pytest

from integration.documents import Block, blocks_of
from integration.runnables.hosts import one
from polyglot.conftest import PATH, PROTO, run
from polyglot.test_polyglot import build, go_variables
from polyglot.test_runnables import hosting, serving

pytestmark = pytest.mark.timeout(300)

PAGE = (PROTO / "README.md").read_text("utf-8")
CLIENTS = ["Node", "Go", "Java", "C++", "Python without the SDK"]
HOSTS = "Hosting actions"
INSTALLS = ("npm install ", "pip install ", "go mod ")
"""What fetches the packages that the tests have already."""


def section(heading: str) -> list[Block]:
    """Return the blocks of a section, without those of its subsections."""
    (text,) = re.findall(rf"^##+ {re.escape(heading)}$(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return blocks_of(text)


def prepared(heading: str, folder: Path) -> list[str]:
    """Write the files of a section into a folder, beside the contract, and return its commands."""
    (folder / "proto").symlink_to(PROTO)
    for block in section(heading):
        if block.file:
            (folder / block.file).write_text(block.text)
    (commands,) = [block.text for block in section(heading) if block.language == "sh"]
    return [line for line in commands.splitlines() if not line.startswith(INSTALLS)]


def packages(language: str, folder: Path, shared_folder: Path) -> dict[str, str]:
    """Put what a language needs beside the program, and return the environment of its commands."""
    match language:
        case "Node":
            (folder / "node_modules").symlink_to(node_modules(shared_folder))
        case "Go":
            built = Path(build("go", shared_folder)[0]).parent
            (folder / "codec.go").write_text('package main\n\nimport _ "codec"\n')
            return {**go_variables(folder.parents[1], built), "PATH": f"{built}:{PATH}"}
        case "Java":  # its compiler takes the generated classes as another test has compiled them
            classes = build("java", shared_folder)[2]
            return {"CLASSPATH": f".:{classes}", "JDK_JAVAC_OPTIONS": "-sourcepath none"}
        case "Python without the SDK":  # the SDK is installed here, and would hide the generated code
            (folder / "stepwave").mkdir()
            (folder / "stepwave" / "__init__.py").touch()
    return {}


def node_modules(shared_folder: Path) -> Path:
    return Path(build("node", shared_folder)[1]).with_name("node_modules")


@pytest.mark.parametrize("language", CLIENTS)
def test_the_program_of_a_section_prints_what_the_page_says(
    language: str, tmp_path: Path, shared_folder: Path, address: str
) -> None:
    folder = tmp_path / "src" / "hello"  # where Go wants it
    folder.mkdir(parents=True)
    variables = packages(language, folder, shared_folder)
    commands = "\n".join(prepared(language, folder)).replace("127.0.0.1:50051", address)
    if language == "C++":  # another test has compiled what is generated, which takes most of a minute
        objects = Path(build("cpp", shared_folder)[0]).with_name("*.pb.cc.o")
        commands = commands.replace("stepwave/v1/*.cc", str(objects))
    (printed,) = [block.text for block in section("From another language")]
    assert run("bash", "-euc", commands, folder=folder, **variables) == printed


async def test_the_host_of_the_page_serves_a_step(tmp_path: Path, shared_folder: Path) -> None:
    (tmp_path / "node_modules").symlink_to(node_modules(shared_folder))
    (command,) = prepared(HOSTS, tmp_path)
    *program, shown = shlex.split(command)
    async with hosting(program, folder=tmp_path) as (address, _):
        entry = (tmp_path / "runnables.toml").read_text().replace(shown, address)
        async with serving(entry, tmp_path) as client:
            assert (await client.run(one("greet", {"name": "Ada"}))).outputs == {"only": {"text": "Hello, Ada"}}


def test_every_program_of_the_page_is_run() -> None:
    shown = [block.file for block in blocks_of(PAGE) if block.language]
    run = [block.file for heading in (*CLIENTS, HOSTS) for block in section(heading) if block.language]
    assert shown == run
