"""`stepwave health`: its exit code says whether a server takes new runs."""

import signal
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from integration.cli.shell import Shell, serving
from integration.durable.server_process import free_address


def test_a_server_that_serves_is_healthy(shell: Shell) -> None:
    done = shell.run("health")
    assert (done.returncode, done.stdout, done.stderr) == (0, "serving\n", "")


def test_a_server_that_drains_is_not_healthy() -> None:
    with serving("--actions", "tools", "--drain-timeout", "1h") as (address, server):
        shell = Shell(address)
        shell.run("run", "flows/holding.yaml", "--detach")
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_error("draining")
        done = shell.run("health")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"the server at {address} takes no new runs\n"


@pytest.mark.parametrize("bound", [False, True], ids=["nothing listens", "no answer comes"])
def test_without_an_answer_the_exit_code_is_3(bound: bool) -> None:
    address = free_address()
    server = grpc.server(ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 0)])
    if bound:  # gRPC accepts connections of a server that was not started
        server.add_insecure_port(address)
    done = Shell(address).run("health", "--timeout", "500ms")
    assert done.returncode == 3
    assert f"no answer from {address}: " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--server", "10.0.0.1:50051"), "pass --insecure to allow"),
        (("--server", "nowhere"), "an address is HOST:PORT or unix:PATH"),
        (("--timeout", "soon"), "--timeout: "),
    ],
)
def test_an_invalid_option_exits_with_2(local_shell: Shell, arguments: tuple[str, ...], message: str) -> None:
    done = local_shell.run("health", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
