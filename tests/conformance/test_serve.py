"""`stepwave serve --engine temporal`: its options, and what it does without Temporal."""

import os
import signal
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from conformance.processes import Cluster
from stepwave import AsyncClient, Workflow
from temporal_server import TemporalServer

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--journal", "memory"),
        ("--synchronous", "full"),
        ("--recover", "resume"),
        ("--keep-runs", "5"),
        ("--keep-age", "1d"),
        ("--keep-bytes", "5"),
        ("--max-runs", "5"),
        ("--max-attempts", "5"),
    ],
)
def test_an_option_of_the_local_engine_is_refused_by_name(cluster: Cluster, option: str, value: str) -> None:
    done = cluster.run("serve", "--engine", "temporal", option, value)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{option}: it has no meaning with --engine temporal: ")
    assert len(done.stderr.splitlines()) == 1


def test_all_settings_of_the_other_engine_are_named_together(cluster: Cluster) -> None:
    done = cluster.run("serve", "--max-runs", "5", STEPWAVE_ENGINE="temporal", STEPWAVE_JOURNAL="memory")
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["STEPWAVE_JOURNAL", "--max-runs"]


def test_an_option_of_temporal_is_refused_with_the_local_engine(cluster: Cluster) -> None:
    done = cluster.run("serve", "--temporal-wait", "3s", STEPWAVE_ENGINE="local")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "STEPWAVE_TEMPORAL_ADDRESS: it is for --engine temporal",
        "STEPWAVE_TEMPORAL_TASK_QUEUE: it is for --engine temporal",
        "--temporal-wait: it is for --engine temporal",
    ]


@pytest.mark.parametrize("check", [(), ("--check",)], ids=["serve", "check"])
def test_limits_that_need_one_server_are_refused_by_name(cluster: Cluster, check: tuple[str, ...]) -> None:
    (cluster.folder / "limits.yaml").write_text("limits: [{actions: core.*, per_key: {concurrency: 2}}]")
    done = cluster.run("serve", "--engine", "temporal", "--limits", "limits.yaml", *check)
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.partition(": ")[0] for line in done.stderr.splitlines()] == ['the limit "core.*"'] * 2


def test_without_temporal_it_names_the_address(cluster: Cluster) -> None:
    done = cluster.run("serve", "--engine", "temporal", "--temporal-address", "127.0.0.1:1", "--temporal-wait", "0.1s")
    assert (done.returncode, done.stdout) == (2, "")
    waits, gave_up = done.stderr.splitlines()
    waiting = "Temporal at 127.0.0.1:1 does not answer yet; waiting for it for at most 0.1 s: Connection refused"
    assert waits.endswith(waiting)
    assert gave_up == "Temporal at 127.0.0.1:1 did not answer within 0.1 s: Connection refused"


@pytest.mark.parametrize("command", [("serve", "--engine", "temporal"), ("host", "tools")], ids=["serve", "host"])
def test_without_its_packages_it_says_what_to_install(cluster: Cluster, command: tuple[str, ...]) -> None:
    missing = 'raise ModuleNotFoundError("No module named \'temporalio\'", name="temporalio")'
    (cluster.folder / "temporalio.py").write_text(missing)
    paths = [str(cluster.folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = cluster.run(*command, PYTHONPATH=":".join(paths))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "the Temporal engine needs: pip install 'stepwave[temporal]'\n"


def test_while_temporal_is_lost_it_does_not_serve_and_logs_one_line_at_each_change(tmp_path: Path) -> None:
    with (
        TemporalServer(tmp_path / "temporal.db") as temporal,
        Cluster(temporal.address, "lost", tmp_path).serving() as (address, server),
        grpc.insecure_channel(address) as channel,
    ):
        states = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(states).status == SERVING
        temporal.kill()
        assert next(states).status == NOT_SERVING
        assert "no new runs are accepted until it answers again" in server.wait_for_error(temporal.address + " does")
        temporal.start()
        assert next(states).status == SERVING
        assert server.wait_for_error("again").endswith(f"Temporal at {temporal.address} answers again\n")
        states.cancel()
        server.process.terminate()
        code, _, rest = server.end()
    assert code == 0
    assert [line.split(": ")[1].split()[0] for line in rest.splitlines()] == ["draining"]


async def test_a_second_signal_gives_up_the_attempts_of_a_server_which_run_again_on_another(cluster: Cluster) -> None:
    actions = ("--actions", "tools", "--drain-timeout", "1h")
    flow = Workflow("holding")
    flow.step("only", "hold")
    with cluster.serving(*actions) as (address, server):
        async with AsyncClient(address) as client:
            run = await client.start(flow)
            server.wait_for_error("holding")
        server.process.send_signal(signal.SIGINT)
        server.wait_for_error("draining")
        server.process.send_signal(signal.SIGINT)
        assert server.end()[0] == 0
    (cluster.folder / "go").write_text("")
    with cluster.serving(*actions) as (address, _):
        async with AsyncClient(address) as client:
            result = await client.wait(run.run_id)
    assert result.steps["only"].attempts == 2
