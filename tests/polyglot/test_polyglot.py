"""Programs in other languages, made from the `.proto` files alone, do all that clients do: see README.md."""

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from polyglot.conftest import CONTRACT, HERE, PROTO, googleapis, once, require, run, run_silent

INVALID_FIELDS = ["workflow.steps[0].depends_on", "workflow.steps[1].action"]
JARS = """
    protobuf gson guava error-prone-annotations geronimo-annotation-1.3-spec jsr305 perfmark-api
    grpc-api grpc-context grpc-core grpc-netty grpc-protobuf grpc-protobuf-lite grpc-stub netty-buffer netty-codec
    netty-codec-http netty-codec-http2 netty-common netty-handler netty-resolver netty-transport
"""
EXPECTED = {
    "plan": {"wave_sizes": [1, 2, 1], "steps": ["a", "b", "c", "d"]},
    "execute": {"events": 16, "state": "STATE_SUCCEEDED", "output": '{"b":{"a":1},"c":{"a":1}}'},
    "resume": {"state": "STATE_CANCELLED"},
    "invalid": {
        "code": "INVALID_ARGUMENT",
        "reason": "INVALID_ARGUMENT",
        "domain": "stepwave",
        "fields": INVALID_FIELDS,
    },
    "cancel": {"state": "STATE_CANCELLED"},
    "deadline": {"code": "DEADLINE_EXCEEDED", "state": "STATE_CANCELLED"},
    "paging": {"pages": [2, 2, 1], "runs": 5},
}
NAMED = {
    "required": ["name"],
    "state": "STATE_SUCCEEDED",
    "output": '{"hello": "Ada"}',
    "code": "INVALID_ARGUMENT",
    "problem": "input/name: 3 is not of type 'string'",
}
REFLECTION = {
    "services": ["stepwave.v1.OrchestratorService"],
    "method": "rpc WatchRun ( .stepwave.v1.WatchRunRequest ) returns ( stream .stepwave.v1.WatchRunResponse );",
    "steps": ["hello"],
    "state": "STATE_SUCCEEDED",
    "output": '{"hello": "Ada"}',
}


def build_node(folder: Path) -> list[str | Path]:
    require("node", "npm")
    shutil.copytree(HERE / "node", folder, ignore=shutil.ignore_patterns("node_modules"), dirs_exist_ok=True)
    run("npm", "ci", "--no-audit", "--no-fund", folder=folder)
    return ["node", folder / "client.js"]


def go_variables(*folders: Path) -> dict[str, str]:
    """Return the environment in which Go takes packages from folders, and from Debian instead of the network."""
    return {"GOPATH": ":".join([*map(str, folders), "/usr/share/gocode"]), "GO111MODULE": "off"}


def build_go(folder: Path) -> list[str | Path]:
    require("protoc", "go", Path("/usr/share/gocode/src/google.golang.org/grpc"))
    shutil.copytree(HERE / "go", folder / "src", dirs_exist_ok=True)
    debian, programs = go_variables(folder), ("client", "codec", "host")
    for plugin in ("google.golang.org/protobuf/cmd/protoc-gen-go", "google.golang.org/grpc/cmd/protoc-gen-go-grpc"):
        run_silent("go", "build", "-o", folder / plugin.rpartition("/")[2], plugin, folder=folder, **debian)
    plugins = [f"--plugin={folder / plugin}" for plugin in ("protoc-gen-go", "protoc-gen-go-grpc")]
    run_silent("protoc", "-I", PROTO, *plugins, "--go_out=src", "--go-grpc_out=src", *CONTRACT, folder=folder)
    run_silent("gofmt", "-l", *programs, folder=folder / "src")
    run_silent("go", "vet", *programs, "stepwave/v1", folder=folder, **debian)
    run_silent("go", "build", "-o", folder, "client", "host", folder=folder, **debian)
    return [folder / "client"]


def build_cpp(folder: Path) -> list[str | Path]:
    require("protoc", "grpc_cpp_plugin", "g++", "pkg-config")
    plugin = f"--plugin=protoc-gen-grpc={shutil.which('grpc_cpp_plugin')}"
    services = [PROTO / "stepwave" / "v1" / f"{name}.proto" for name in ("orchestrator", "runnable")]
    run_silent("protoc", "-I", PROTO, "--cpp_out=.", *CONTRACT, folder=folder)
    run_silent("protoc", "-I", PROTO, "--grpc_out=.", plugin, *services, folder=folder)
    google = [f"google/rpc/{name}.proto" for name in ("code", "error_details", "status")]
    run_silent("protoc", "-I", googleapis(), "--cpp_out=.", *google, folder=folder)

    def compile_one(source: Path) -> Path:
        target = folder / f"{source.name}.o"
        flags = ("-std=c++17", "-Wall", "-Wextra", "-Werror", "-O0", "-I.")
        run_silent("g++", *flags, "-c", source, "-o", target, folder=folder)
        return target

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, [HERE / "cpp" / "client.cc", *folder.glob("*/**/*.cc")]))
    libraries = run("pkg-config", "--libs", "grpc++", "protobuf", folder=folder).split()
    run_silent("g++", "-o", "client", *objects, *libraries, folder=folder)
    return [folder / "client"]


def build_java(folder: Path) -> list[str | Path]:
    jars = [Path("/usr/share/java") / f"{name}.jar" for name in JARS.split()]
    require("protoc", "grpc_java_plugin", "javac", *jars)
    plugin = f"--plugin=protoc-gen-grpc-java={shutil.which('grpc_java_plugin')}"
    run_silent("protoc", "-I", PROTO, "--java_out=.", "--grpc-java_out=.", plugin, *CONTRACT, folder=folder)
    google = [f"google/rpc/{name}.proto" for name in ("error_details", "status")]
    run_silent("protoc", "-I", googleapis(), "--java_out=.", *google, folder=folder)
    sources = [HERE / "java" / "Client.java", *folder.rglob("*.java")]
    classpath = ":".join(map(str, jars))
    run_silent("javac", "-Werror", "-Xlint:all", "-d", "classes", "-cp", classpath, *sources, folder=folder)
    return ["java", "-cp", f"{folder / 'classes'}:{classpath}", "Client"]


def build_grpcurl(_: Path) -> list[str | Path]:
    require("grpcurl", "jq")
    return [HERE / "grpcurl" / "client.sh"]


BUILDS: dict[str, Callable[[Path], list[str | Path]]] = {
    "node": build_node,
    "go": build_go,
    "cpp": build_cpp,
    "java": build_java,
    "grpcurl": build_grpcurl,
}


def build(language: str, shared_folder: Path) -> list[str]:
    """Build the program of a language, and return the command that runs it."""
    return once(shared_folder / f"polyglot-{language}", BUILDS[language])


def show(program: list[str], address: str, scenario: str) -> object:
    """Run a scenario, and return what the program prints."""
    shown = run(*program, address, scenario, folder=HERE, PROTO=str(PROTO), GOOGLEAPIS=str(googleapis()))
    value: object = json.loads(shown)
    return value


@pytest.fixture(scope="module", params=BUILDS)
def program(request: pytest.FixtureRequest, shared_folder: Path) -> list[str]:
    return build(request.param, shared_folder)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("scenario", EXPECTED)
def test_a_program_made_from_the_contract_alone(program: list[str], scenario: str, address: str) -> None:
    assert show(program, address, scenario) == EXPECTED[scenario]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("language", ["node", "grpcurl"])
def test_a_name_and_json_are_enough_for_a_run(language: str, shared_folder: Path, address: str) -> None:
    assert show(build(language, shared_folder), address, "named") == NAMED


def test_reflection_is_enough_to_list_describe_plan_and_run(shared_folder: Path, address: str) -> None:
    assert show(build("grpcurl", shared_folder), address, "reflection") == REFLECTION
