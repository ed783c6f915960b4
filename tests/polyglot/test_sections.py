"""The programs in the sections of `proto/README.md` work, with the commands below them."""

import asyncio
import re
import shlex
from pathlib import Path

import grpc
import pytest

from integration.client.fake import Fake, batch, started
from integration.client.test_client_streams import streams
from integration.documents import Block, blocks_of
from integration.runnables.hosts import one
from polyglot.conftest import PATH, PROTO, run
from polyglot.test_polyglot import build, go_variables
from polyglot.test_runnables import hosting, refusal_of_nothing, serving

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


def program(language: str, tmp_path: Path, shared_folder: Path) -> tuple[Path, list[str], dict[str, str]]:
    """Write the program of a section, and return its folder, its commands and their environment."""
    folder = tmp_path / "src" / "hello"  # where Go wants it
    folder.mkdir(parents=True)
    variables = packages(language, folder, shared_folder)
    commands = prepared(language, folder)
    if language == "C++":  # another test has compiled what is generated, which takes most of a minute
        objects = Path(build("cpp", shared_folder)[0]).with_name("*.pb.cc.o")
        commands = [command.replace("stepwave/v1/*.cc", str(objects)) for command in commands]
    return folder, commands, variables


def node_modules(shared_folder: Path) -> Path:
    return Path(build("node", shared_folder)[1]).with_name("node_modules")


@pytest.mark.parametrize("language", CLIENTS)
def test_the_program_of_a_section_prints_what_the_page_says(
    language: str, tmp_path: Path, shared_folder: Path, address: str
) -> None:
    folder, commands, variables = program(language, tmp_path, shared_folder)
    (printed,) = [block.text for block in section("From another language")]
    shown = "\n".join(commands).replace("127.0.0.1:50051", address)
    assert run("bash", "-euc", shown, folder=folder, **variables) == printed


@pytest.mark.parametrize("language", CLIENTS)
async def test_the_program_of_a_section_exits_with_an_error_if_the_stream_ends_before_the_run(
    language: str, tmp_path: Path, shared_folder: Path
) -> None:
    fake = Fake()
    fake.execute = streams(batch(started(1)))
    await fake.start()
    folder, (*building, start), variables = program(language, tmp_path, shared_folder)
    commands = "\n".join([*building, f"! {start}"]).replace("127.0.0.1:50051", fake.address)
    await asyncio.to_thread(run, "bash", "-euc", commands, folder=folder, **variables)
    assert fake.names == ["ExecuteWorkflow"]
    await fake.stop()


async def test_the_host_of_the_page_serves_a_step(tmp_path: Path, shared_folder: Path) -> None:
    (tmp_path / "node_modules").symlink_to(node_modules(shared_folder))
    (command,) = prepared(HOSTS, tmp_path)
    *host, shown = shlex.split(command)
    async with hosting(host, folder=tmp_path) as (address, _):
        assert await refusal_of_nothing(address) is grpc.StatusCode.INVALID_ARGUMENT
        entry = (tmp_path / "runnables.toml").read_text().replace(shown, address)
        async with serving(entry, tmp_path) as client:
            assert (await client.run(one("greet", {"name": "Ada"}))).outputs == {"only": {"text": "Hello, Ada"}}


def test_every_program_of_the_page_is_run() -> None:
    shown = [block.file for block in blocks_of(PAGE) if block.language]
    run = [block.file for heading in (*CLIENTS, HOSTS) for block in section(heading) if block.language]
    assert shown == run
