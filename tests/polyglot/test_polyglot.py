"""Programs in other languages, made from the `.proto` files alone, do all that clients do: see README.md."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from polyglot.conftest import CHECKOUT, HERE, googleapis, require, run

INVALID_FIELDS = ["steps[0].depends_on", "steps[1].action"]
EXPECTED = {
    "plan": {"wave_sizes": [1, 2, 1], "steps": ["a", "b", "c", "d"]},
    "execute": {"events": 16, "state": "STATE_SUCCEEDED", "output": '{"b":{"a":1},"c":{"a":1}}'},
    "resume": {"state": "STATE_SUCCEEDED"},
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


def build_node(folder: Path) -> list[str | Path]:
    require("node", "npm")
    shutil.copytree(HERE / "node", folder / "node", ignore=shutil.ignore_patterns("node_modules"))
    run("npm", "ci", "--no-audit", "--no-fund", folder=folder / "node")
    return ["node", folder / "node" / "client.js"]


BUILDS: dict[str, Callable[[Path], list[str | Path]]] = {"node": build_node}


@pytest.fixture(scope="module", params=BUILDS)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    """Build the program of a language, and return the command that runs it."""
    return BUILDS[request.param](tmp_path_factory.mktemp(request.param))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("scenario", EXPECTED)
def test_a_program_made_from_the_contract_alone(program: list[str | Path], scenario: str, address: str) -> None:
    protos = {"PROTO": str(CHECKOUT / "proto"), "GOOGLEAPIS": str(googleapis())}
    shown = run(*program, address, scenario, folder=HERE, **protos)
    assert json.loads(shown) == EXPECTED[scenario]
