"""Mutated files, JSON pointers and expressions: only the documented errors, within a bounded time."""

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest

from integration.hostile.texts import EXPRESSIONS, FILES, POINTERS, files, texts
from stepwave._files import WorkflowFileError, load_workflow
from stepwave_server.access.access_file import load_access
from stepwave_server.access.roles import AccessError
from stepwave_server.config_loading import SettingsInvalid, load_settings
from stepwave_server.core.inputs import EvaluationFailed, Values
from stepwave_server.core.model import Binding, FromExpression, FromStep, State, Step
from stepwave_server.engine.evaluation.expressions import SyntaxProblem, compile_expression
from stepwave_server.engine.evaluation.json_evaluator import JsonEvaluator
from stepwave_server.files.limits import LimitsError, load_limits
from stepwave_server.files.secrets import SecretsError, load_secrets

COUNT = 4 * int(os.environ.get("STEPWAVE_FUZZ", "40"))
"""Mutations of each kind of file, of pointers, and of expressions. `make fuzz` sets more."""

MOST_SECONDS = 2.0
"""Seconds of the processor that one text may take."""

READERS: dict[str, tuple[Callable[[Path], object], type[Exception]]] = {
    "workflow.yaml": (load_workflow, WorkflowFileError),
    "workflow.json": (load_workflow, WorkflowFileError),
    "limits.yaml": (load_limits, LimitsError),
    "limits.json": (load_limits, LimitsError),
    "secrets.toml": (load_secrets, SecretsError),
    "access.toml": (load_access, AccessError),
    "stepwave.toml": (lambda path: load_settings({}, file=path), SettingsInvalid),
}

VALUES = Values(
    '{"k": "abc", "n": 12345678901234567890, "list": [3, 1, 2]}',
    {"a": '{"x": [1, {"y": 2.50}], "t": "text", "": {"": 0}}', "b": None},
    {"a": State.SUCCEEDED, "b": State.FAILED},
)


@pytest.fixture
def draw(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(os.environ.get("STEPWAVE_SEED", request.node.name))


@contextmanager
def bounded(text: object, *allowed: type[Exception]) -> Iterator[None]:
    """Allow some errors inside, and a bounded time."""
    begin = time.process_time()
    try:
        yield
    except allowed:
        pass
    except Exception as error:
        raise AssertionError(f"{type(error).__name__} for {text!r:.2000}") from error
    assert time.process_time() - begin < MOST_SECONDS, text


@pytest.mark.parametrize("name", FILES)
def test_a_mutated_file_is_read_or_refused(tmp_path: Path, draw: random.Random, name: str) -> None:
    read, error = READERS[name]
    path = tmp_path / name
    path.write_text(FILES[name])
    read(path)
    for data in islice(files(name, draw), COUNT):
        path.write_bytes(data)
        with bounded(data, error):
            read(path)


def test_a_mutated_pointer_finds_a_value_or_none(draw: random.Random) -> None:
    evaluator = JsonEvaluator(1 << 20)
    for pointer in islice(texts(POINTERS, draw), COUNT):
        step = Step("s", "core.echo", bindings=(Binding("/v", FromStep("a", pointer)),))
        with bounded(pointer, EvaluationFailed):
            evaluator.input_of(step, VALUES)


def test_a_mutated_expression_has_a_value_or_a_problem(draw: random.Random) -> None:
    evaluator = JsonEvaluator(1 << 20)
    for text in islice(texts(EXPRESSIONS, draw), COUNT):
        step = Step("s", "core.echo", bindings=(Binding("/v", FromExpression(text)),))
        with bounded(text, SyntaxProblem, EvaluationFailed):
            compile_expression(text)
            evaluator.input_of(step, VALUES)
