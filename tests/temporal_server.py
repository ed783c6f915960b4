"""A development server of Temporal, as a process of its own on a free port of loopback."""

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self
from uuid import uuid4

import grpc
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client

from owned import owned

__all__ = ["SEARCH_ATTRIBUTES", "SharedTemporalServer", "TemporalServer", "program"]

START_SECONDS = 30

TESTS_PER_SERVER = 20
"""Tests that share a server. Each leaves task queues and a namespace behind, which cost the server time for good."""

SEARCH_ATTRIBUTES = {
    "StepwaveLabels": "KeywordList",
    "StepwaveNamespace": "Keyword",
    "StepwaveState": "Keyword",
    "StepwaveWorkflow": "Keyword",
}

_KINDS = {
    "Keyword": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    "KeywordList": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD_LIST,
}


class TemporalServer:
    """The server, for as long as its block.

    Args:
        database: The file that keeps its state across restarts; `None`: in memory.

    Attributes:
        address: Its address, the same after a restart.
    """

    def __init__(self, database: Path | None = None) -> None:
        self._database = database
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.address = f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start the process, and wait until it serves."""
        command = [program(), "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", str(self._port)]
        command += ["--log-level", "never"]
        for queue in ("timer", "transfer", "visibility"):  # by default, a workflow is deleted half a minute later
            command += ["--dynamic-config-value", f'history.{queue}ProcessorUpdateAckInterval="200ms"']
        for name, kind in SEARCH_ATTRIBUTES.items():
            command += ["--search-attribute", f"{name}={kind}"]
        if self._database is not None:
            command += ["--db-filename", str(self._database)]
        # By default, the server runs pollers of its own for every namespace, and each test makes one.
        command += ["--dynamic-config-value", "worker.perNamespaceWorkerCount=0"]
        for kind in ("Read", "Write"):  # by default, each of the many task queues of the tests has four parts
            command += ["--dynamic-config-value", f"matching.numTaskqueue{kind}Partitions=1"]
        end = time.monotonic() + START_SECONDS
        while not _is_healthy(self.address):
            assert time.monotonic() < end, "the server of Temporal did not start in time"
            if self._process is None or self._process.poll() is not None:  # its port may still be in use
                self._process = subprocess.Popen(owned(command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(0.05)

    async def new_namespace(self) -> str:
        """Make a namespace, so that a test may use any ids. It is ready at once."""
        client = await Client.connect(self.address)
        name = f"test-{uuid4().hex}"
        kept = Duration(seconds=24 * 3600)
        request = RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=kept)
        await client.workflow_service.register_namespace(request)
        kinds = {key: _KINDS[kind] for key, kind in SEARCH_ATTRIBUTES.items()}
        add = AddSearchAttributesRequest(namespace=name, search_attributes=kinds)
        await client.operator_service.add_search_attributes(add)
        return name

    def kill(self) -> None:
        """Kill the process, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class SharedTemporalServer:
    """A server that several tests in a row share. It runs only between a test that needs it and one that does not."""

    def __init__(self) -> None:
        self._server: TemporalServer | None = None
        self._tests = 0

    def get(self) -> TemporalServer:
        """Return the server for one more test, a new one now and then."""
        if self._tests == TESTS_PER_SERVER:
            self.stop()
        if self._server is None:
            self._server = TemporalServer()
            self._server.start()
        self._tests += 1
        return self._server

    def stop(self) -> None:
        """End the server, if it runs."""
        if self._server is not None:
            self._server.kill()
        self._server, self._tests = None, 0


def program() -> str:
    """Return the path of the program `temporal`."""
    found = shutil.which("temporal", path=str(Path(sys.executable).parent)) or shutil.which("temporal")
    assert found is not None, "the program `temporal` comes with the development extra"
    return found


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _is_healthy(address: str) -> bool:
    request = health_pb2.HealthCheckRequest(service="temporal.api.workflowservice.v1.WorkflowService")
    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=1)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
