"""The generators of further languages read the contract without a warning, and TypeScript accepts what they write."""

import os
import shutil
from pathlib import Path

import pytest

from polyglot.conftest import CONTRACT, HERE, PATH, PROTO, require, run, run_silent
from polyglot.test_polyglot import build

FILES = {
    "csharp": "Orchestrator.cs",
    "objc": "stepwave/v1/Orchestrator.pbobjc.h",
    "kotlin": "stepwave/v1/OrchestratorProtoKt.kt",
    "php": "Stepwave/V1/Workflow.php",
    "ruby": "stepwave/v1/orchestrator_pb.rb",
}


@pytest.mark.parametrize("language", FILES)
def test_protoc_generates_a_language_without_a_warning(language: str, tmp_path: Path) -> None:
    require("protoc")
    run_silent("protoc", "-I", PROTO, f"--{language}_out=.", *CONTRACT, folder=tmp_path)
    assert (tmp_path / FILES[language]).exists()


@pytest.mark.timeout(300)
def test_generated_typescript_passes_the_strict_compiler(tmp_path: Path) -> None:
    require("protoc", "node", "npm")
    shutil.copytree(HERE / "typescript", tmp_path, ignore=shutil.ignore_patterns("node_modules"), dirs_exist_ok=True)
    run("npm", "ci", "--no-audit", "--no-fund", folder=tmp_path)
    tools = tmp_path / "node_modules" / ".bin"
    options = (f"--plugin={tools / 'protoc-gen-es'}", "--es_out=generated", "--es_opt=target=ts,import_extension=js")
    (tmp_path / "generated").mkdir()
    run_silent("protoc", "-I", PROTO, *options, *CONTRACT, folder=tmp_path)
    run_silent(tools / "tsc", folder=tmp_path)


def test_buf_generates_what_the_template_lists(tmp_path: Path, shared_folder: Path) -> None:
    plugins = Path(build("go", shared_folder)[0]).parent
    path = f"{plugins}{os.pathsep}{PATH}"
    run_silent("buf", "generate", PROTO, "--template", PROTO / "buf.gen.yaml", folder=tmp_path, PATH=path)
    made = {file.relative_to(tmp_path / "gen").parts[0] for file in (tmp_path / "gen").rglob("*.*")}
    assert made == {"go", "cpp", "csharp", "java", "ruby"}
    assert (tmp_path / "gen" / "go" / "stepwave" / "v1" / "orchestrator_grpc.pb.go").exists()
