"""The descriptor set of `make proto-image` is the whole contract: tools need nothing else."""

from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from polyglot.conftest import CONTRACT, HERE, PROTO, require, run


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require("make", "buf")
    path = tmp_path_factory.mktemp("image") / "dist" / "stepwave.binpb"
    run("make", "--old-file=.venv/.installed", "proto-image", f"IMAGE={path}", folder=HERE.parents[1])
    return path


def test_the_image_has_all_files_their_imports_and_their_comments(image: Path) -> None:
    files = {file.name: file for file in FileDescriptorSet.FromString(image.read_bytes()).file}
    own = {str(path.relative_to(PROTO)) for path in CONTRACT}
    assert own < files.keys()
    assert {name for file in files.values() for name in file.dependency} <= files.keys()
    for name in own:
        assert any(place.leading_comments for place in files[name].source_code_info.location), name


def test_grpcurl_calls_and_describes_with_the_image_alone(image: Path, address: str) -> None:
    require("grpcurl")
    start = '{"workflow_name": "greeting", "input": {"json": "{\\"name\\": \\"Ada\\"}"}}'
    service, options = "stepwave.v1.OrchestratorService", ("-plaintext", "-protoset", image)
    assert service in run("grpcurl", *options, "list", folder=HERE).splitlines()
    described = run("grpcurl", *options, "describe", f"{service}.WatchRun", folder=HERE)
    assert "// Streams the events of a run after a sequence." in described
    events = run("grpcurl", *options, "-d", start, address, f"{service}/ExecuteWorkflow", folder=HERE)
    assert '"runFinished"' in events
    assert '"state": "STATE_SUCCEEDED"' in events
