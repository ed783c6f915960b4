"""What the documents show and `test_readme.py` does not run: other commands, files, and drawings.

Some commands need a cluster, Docker or a network. Of those, the test checks what can be true or false here: that their
options exist, and the files, addresses and packages that they name.
"""

import asyncio
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import typer.main

from benchmarks.loads import all_loads
from integration.deploy.tools import CHART, DEPLOY, system_tool
from integration.documents import Block, blocks
from integration.test_readme import CHECKOUT, DOCUMENTS
from stepwave._files import parse_workflow
from stepwave.cli.app import app
from stepwave.testing import run_scripted
from stepwave_server.app import STREAM_GRACE, Server
from stepwave_server.config import Settings
from stepwave_server.config_loading import load_settings
from stepwave_server.engine.temporal.visibility import SEARCH_ATTRIBUTES

if TYPE_CHECKING:
    from typer.core import TyperGroup

PAGES = [
    *DOCUMENTS,
    "proto/README.md",
    "server/deploy/README.md",
    "server/deploy/helm/stepwave/README.md",
    "server/stepwave_server/README.md",
    "tests/benchmarks/README.md",
]
GROUP = cast("TyperGroup", typer.main.get_command(app))
EXTRAS = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]


@dataclass(frozen=True)
class Shown:
    """A command that a document shows after `$`, on one line."""

    document: str
    text: str

    @property
    def words(self) -> list[str]:
        """The words of the command, without the variables before it and what a pipe or a comment adds."""
        return shlex.split(self.text, comments=True)


def shown() -> Iterator[Shown]:
    """Yield the commands after `$` in all documents."""
    for document in PAGES:
        for block in blocks(CHECKOUT / document):
            for line in re.findall(r"^\$ (.*)$", block.text.replace("\\\n", ""), re.MULTILINE):
                yield Shown(document, line)


COMMANDS = list(shown())


def of(program: str) -> list[Shown]:
    """Return the commands of a program."""
    return [command for command in COMMANDS if command.words[0] == program]


def block_of(document: str, *, has: str) -> Block:
    """Return the only block of a document with a text."""
    (found,) = [block for block in blocks(CHECKOUT / document) if has in block.text]
    return found


def test_every_program_that_is_shown_has_a_test() -> None:
    tested = {"stepwave", "pip", "temporal", "export", "docker", "grpcurl", "curl", "helm"}
    assert {command.words[0] for command in COMMANDS} == tested


def test_every_block_is_run_or_checked() -> None:
    """Named files are written for the commands, and `sh` blocks are run. The chart's values have tests of their own.

    `tests/polyglot/test_sections.py` runs the programs of the page on the contract.
    """
    for document in PAGES:
        for block in blocks(CHECKOUT / document):
            is_run = document in DOCUMENTS and (block.language in {"sh", "python"} or block.file is not None)
            is_checked = block.language in {"", "dockerfile"} or document.startswith(("server/deploy/helm/", "proto/"))
            assert is_run or is_checked or block.text in OTHERS, (document, block.text)


WORKFLOWS = [block for block in blocks(CHECKOUT / "client/README.md") if block.language == "yaml" and not block.file]
SETTINGS = block_of("server/stepwave_server/README.md", has="[temporal]")
AGENT = block_of("client/README.md", has="mcpServers")
OTHERS = {block.text for block in (*WORKFLOWS, SETTINGS, AGENT)}
"""Blocks that are no files of the commands, and have tests here."""


@pytest.mark.parametrize("block", WORKFLOWS, ids=lambda block: block.text.splitlines()[0])
def test_a_workflow_that_is_shown_is_one(block: Block) -> None:
    assert parse_workflow(block.text, "README.md").message.steps


def test_the_settings_of_the_page_on_the_server_are_settings(tmp_path: Path) -> None:
    file = tmp_path / "stepwave.toml"
    file.write_text(SETTINGS.text)
    assert set(load_settings({}, file=file).origins) >= {"max_runs", "step_timeout", "temporal_address"}


def test_the_configuration_of_an_agents_client_has_options_of_the_command() -> None:
    (server,) = json.loads(AGENT.text)["mcpServers"].values()
    test_an_own_command_has_the_options_that_are_shown(
        Shown("client/README.md", shlex.join([server["command"], *server["args"]]))
    )


@pytest.mark.parametrize("command", of("stepwave"), ids=lambda command: command.text)
def test_an_own_command_has_the_options_that_are_shown(command: Shown) -> None:
    outer = GROUP.make_context("stepwave", command.words[1:])
    name, inner, arguments = GROUP.resolve_command(outer, [*outer._protected_args, *outer.args])
    assert inner is not None
    inner.make_context(name, list(arguments), parent=outer)


def inline(pattern: str) -> set[str]:
    """Return what a pattern finds within the sentences of the documents."""
    fenced = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
    texts = [fenced.sub("", (CHECKOUT / document).read_text("utf-8")) for document in PAGES]
    return {found for text in texts for found in re.findall(pattern, text)}


@pytest.mark.parametrize("code", sorted(inline(r"`stepwave ([^`]+)`")))
def test_a_command_in_a_sentence_has_the_options_that_are_named(code: str) -> None:
    words = code.replace("[", " ").replace("]", " ").split()
    known = {option for parameter in GROUP.params for option in parameter.opts} | {"--help", "--install-completion"}
    if not words[0].startswith("-"):
        known |= {option for parameter in GROUP.commands[words[0]].params for option in parameter.opts}
    assert {word for word in words if re.fullmatch(r"--?[a-z-]+", word)} <= known


def test_targets_of_make_in_sentences_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert inline(r"`make ([a-z-]+)`") <= targets


def test_modules_that_sentences_run_exist() -> None:
    modules = inline(r"`python -m (tests[\w.]+)")
    assert modules
    files = [CHECKOUT / module.replace(".", "/") for module in modules]
    assert all(file.with_suffix(".py").exists() or (file / "__main__.py").exists() for file in files)


def test_loads_of_benchmarks_in_sentences_exist() -> None:
    named = inline(r"`python -m tests\.benchmarks --only (\w+)`")
    assert named
    assert named <= {load.name for load in all_loads(quick=True)}


def test_installed_extras_exist() -> None:
    for command in of("pip"):
        (extra,) = re.findall(r"\[(\w+)\]", command.words[2])
        assert extra in EXTRAS


def test_exported_variables_are_settings() -> None:
    for command in of("export"):
        names = [word.partition("=")[0].removeprefix("STEPWAVE_").lower() for word in command.words[1:]]
        assert set(names) <= Settings.model_fields.keys()


@pytest.mark.parametrize("command", of("temporal"), ids=lambda command: " ".join(command.words[1:4]))
def test_a_command_of_temporal_has_the_options_that_are_shown(command: Shown) -> None:
    options = {word for word in command.words if word.startswith("--")}
    texts = _output("temporal", *command.words[1:4], "--help") + _output("temporal", "options")
    assert options <= set(re.findall(r"--[a-z-]+", texts))


def _output(program: str, *words: str, folder: Path | None = None) -> str:
    """Return what a program prints. It must succeed."""
    asked = [system_tool(program), *words]
    return subprocess.run(asked, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_the_search_attributes_that_are_shown_are_those_that_servers_need() -> None:
    (command,) = [it.words for it in of("temporal") if "search-attribute" in it.words]
    names = [command[place + 1] for place, word in enumerate(command) if word == "--name"]
    kinds = [command[place + 1] for place, word in enumerate(command) if word == "--type"]
    assert dict(zip(names, kinds, strict=True)) == SEARCH_ATTRIBUTES


def test_the_image_is_built_and_run_as_its_recipe_says() -> None:
    build, run = of("docker")
    recipe = (DEPLOY / "Dockerfile").read_text("utf-8")
    assert (CHECKOUT / build.words[build.words.index("--file") + 1]).samefile(DEPLOY / "Dockerfile")
    assert build.words[build.words.index("--tag") + 1] == run.words[-1]
    options = dict(zip(run.words, run.words[1:], strict=False))
    assert f"VOLUME {options['--volume'].partition(':')[2]}\n" in recipe
    assert f"EXPOSE {options['--publish'].rpartition(':')[2]}\n" in recipe
    settings = Settings()
    assert int(options["--stop-timeout"]) > settings.drain_timeout + settings.cancel_grace + STREAM_GRACE


def test_an_image_of_ones_own_keeps_the_user_of_the_recipe() -> None:
    recipe = (DEPLOY / "Dockerfile").read_text("utf-8")
    document = (DEPLOY / "README.md").read_text("utf-8")
    own = document[document.index("FROM stepwave") : document.index("COPY tools.py /app/")]
    assert re.findall(r"USER (\S+)", own)[-1] == re.findall(r"^USER (\S+)$", recipe, re.MULTILINE)[-1]


def test_the_chart_that_is_installed_exists() -> None:
    for command in of("helm"):
        assert (CHECKOUT / command.words[3]).samefile(CHART)


@pytest.mark.parametrize("command", of("grpcurl"), ids=lambda command: command.words[-1])
async def test_grpcurl_succeeds_as_shown(command: Shown, tmp_path: Path) -> None:
    block = block_of("server/README.md", has="# search.yaml")
    (tmp_path / "search.yaml").write_text(block.text)
    settings = Settings(listen="127.0.0.1:0", entry_points=False, workflows=tmp_path)
    async with Server(settings) as server:
        words = [re.sub(r"^[\w.]+:50051$", server.address, word) for word in command.words[1:]]
        asked = await asyncio.create_subprocess_exec(system_tool("grpcurl"), *words, stdout=asyncio.subprocess.PIPE)
        answer, _ = await asked.communicate()
    assert asked.returncode == 0
    expected = {"list": "stepwave.v1.OrchestratorService\n", "describe": "rpc ExecuteWorkflow"}
    by_method = {"PlanWorkflow": '"wave_sizes"', "ExecuteWorkflow": '"state": "STATE_SUCCEEDED"'}
    assert {**expected, **by_method}[_asked(command)] in answer.decode()


def _asked(command: Shown) -> str:
    """Return what a command of grpcurl asks for: a method, or about the services."""
    verbs = [word for word in command.words if word in {"list", "describe"}]
    return verbs[0] if verbs else command.words[-1].rpartition("/")[2]


def test_the_drawing_of_a_graph_is_what_the_command_prints(tmp_path: Path) -> None:
    steps = [
        {"id": "search", "action": "web.get"},
        {"id": "facts", "action": "llm.write", "depends_on": ["search"]},
        {"id": "weather", "action": "weather.today", "depends_on": ["search"]},
        {"id": "brief", "action": "llm.write", "depends_on": ["facts", "weather"]},
    ]
    (tmp_path / "flow.yaml").write_text(json.dumps({"name": "briefing", "steps": steps}))
    command, _, drawing = block_of("client/README.md", has="graph flow.yaml").text.removeprefix("$ ").partition("\n")
    printed = _output(*shlex.split(command), folder=tmp_path)
    assert [line.rstrip() for line in printed.splitlines()] == drawing.splitlines()


@pytest.mark.parametrize(("careful", "outputs"), [(True, {"report": "3 pages, 1 more"}), (False, {})])
def test_the_workflow_of_decisions_and_lists_runs(careful: bool, outputs: object) -> None:
    """Without care nobody approves, and the report is left out."""
    names: dict[str, Any] = {}
    exec(block_of("client/README.md", has="# pages.py").text, names)
    run = run_scripted(names["flow"], {"approval": {"by": "Ada"}}, {"query": "fjords", "careful": careful})
    assert run.outputs == outputs
