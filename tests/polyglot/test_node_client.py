"""The client for Node: its own tests pass against real servers, and its package works where it is installed."""

import shutil
from pathlib import Path

import pytest
import trustme

from polyglot.conftest import HERE, PROTO, once, require, run

CHECKOUT = HERE.parents[1]
NODE = CHECKOUT / "client" / "node"
TESTS = sorted(file.name.removesuffix(".test.ts") for file in NODE.glob("test/*.test.ts"))
LEFT_OUT = shutil.ignore_patterns("node_modules", "dist", "build")


def build(folder: Path) -> list[str | Path]:
    """Build the package and its tests in a copy of the checkout, and return the command that tests it."""
    require("node", "npm")
    package = folder / "client" / "node"
    shutil.copytree(NODE, package, ignore=LEFT_OUT)
    shutil.copytree(PROTO, folder / "proto")
    shutil.copy(CHECKOUT / "LICENSE", folder)
    run("npm", "ci", "--no-audit", "--no-fund", folder=package)
    run("npm", "run", "build", folder=package)
    run("npx", "--no-install", "tsc", "--project", "test", folder=package)
    run("npm", "pack", "--ignore-scripts", folder=package)
    return ["node", "--test"]


@pytest.fixture(scope="module")
def package(shared_folder: Path) -> Path:
    """Return the folder of the built package."""
    once(shared_folder / "node-client", build)
    return shared_folder / "node-client" / "client" / "node"


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """Return a folder with an authority, and a certificate of `localhost` that it signed."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    issued.private_key_pem.write_to_path(tmp_path / "server.key")
    return tmp_path


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", TESTS)
def test_the_tests_of_the_package_pass(name: str, package: Path, certificates: Path) -> None:
    file = package / "build" / f"{name}.test.js"
    shown = run("node", "--test", "--test-reporter=tap", file, folder=package, CERTIFICATES=str(certificates))
    assert "# fail 0" in shown
    assert "# skipped 0" in shown


@pytest.mark.timeout(300)
def test_the_program_of_its_readme_works_with_the_installed_package(
    package: Path, address: str, tmp_path: Path
) -> None:
    (archive,) = package.glob("stepwave-*.tgz")
    program = (NODE / "README.md").read_text("utf-8").partition("```js\n")[2].partition("```")[0]
    (tmp_path / "briefing.mjs").write_text(program)
    (tmp_path / "package.json").write_text("{}")
    run("npm", "install", "--no-audit", "--no-fund", archive, folder=tmp_path)
    lines = run("node", "briefing.mjs", folder=tmp_path, STEPWAVE_SERVER=address).splitlines()
    assert sorted(lines[:2]) == ["sky succeeded", "wait succeeded"]
    assert lines[2:] == ["brief succeeded", "{ brief: { text: 'rain', where: 'Oslo' } }"]


def test_the_package_has_the_contract_its_types_and_its_license_alone(package: Path) -> None:
    (archive,) = package.glob("stepwave-*.tgz")
    names = run("tar", "--list", "--file", archive, folder=package).splitlines()
    inner = [name.removeprefix("package/") for name in names]
    contract = {f"dist/proto/stepwave/v1/{file.name}" for file in PROTO.glob("stepwave/v1/*.proto")}
    assert contract | {"LICENSE", "README.md", "package.json", "dist/index.js", "dist/index.d.ts"} <= set(inner)
    assert not [name for name in inner if name.startswith(("src/", "test/", "scripts/", "build/"))]


def test_nothing_of_the_package_in_the_repository_is_built_or_names_a_registry() -> None:
    listed = run("git", "ls-files", "client/node", folder=CHECKOUT).splitlines()
    files = [CHECKOUT / name for name in listed]
    assert NODE / "package.json" in files
    assert not [file for file in files if {"dist", "build", "node_modules"} & set(file.relative_to(NODE).parts)]
    assert not [file for file in files if file.suffix == ".proto" and file.parent != NODE / "src"]
    assert '"resolved"' not in (NODE / "package-lock.json").read_text("utf-8")
