"""The page on how the server is built names what exists, and follows a step in at most 18 modules."""

import re
from pathlib import Path

import stepwave_server

PACKAGE = Path(stepwave_server.__file__).parent
TEXT = (PACKAGE / "README.md").read_text("utf-8")


def test_every_module_that_is_named_exists() -> None:
    named = set(re.findall(r"`([a-z_/]+\.py)`", TEXT))
    assert len(named) > 20
    modules = [file.relative_to(PACKAGE).as_posix() for file in PACKAGE.rglob("*.py")]
    assert [name for name in named if not any(f"/{module}".endswith(f"/{name}") for module in modules)] == []


def test_every_function_that_is_named_beside_a_module_is_in_it() -> None:
    found = re.findall(r"`([a-z_/]+\.py)`: ((?:`[A-Za-z_.]+`(?:, )?)+)", TEXT)
    assert found
    for module, names in found:
        source = (PACKAGE / module).read_text()
        for name in re.findall(r"`([A-Za-z_.]+)`", names):
            assert re.search(rf"def {name.rpartition('.')[2]}\(", source), (module, name)


def test_a_step_is_followed_in_at_most_18_modules() -> None:
    steps = [int(number) for number in re.findall(r"^\| (\d+) \| `", TEXT, re.MULTILINE)]
    assert steps == list(range(1, 19))
