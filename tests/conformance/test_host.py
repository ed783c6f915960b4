"""`stepwave host`: it takes attempts, drains, gives back what it cannot finish, and refuses what it cannot do."""

import asyncio
import signal
from pathlib import Path

import pytest

from conformance.processes import Cluster
from integration.cli.shell import RunningCommand
from integration.server.raw_client import GUARD
from integration.server.scraping import scrape
from stepwave import AsyncClient, FailureCause, RunFailed, StepRetrying, Workflow
from temporal_server import TemporalServer

LAG = "stepwave_event_loop_lag_seconds"


def _holding() -> Workflow:
    flow = Workflow("holding")
    flow.step("only", "hold")
    return flow


async def test_a_drained_host_lets_its_attempts_end_and_exits_with_0(cluster: Cluster) -> None:
    with cluster.serving() as (address, _), cluster.hosting() as host:
        async with AsyncClient(address) as client:
            run = await client.start(_holding())
            host.wait_for_error("holding")
            host.process.send_signal(signal.SIGTERM)
            host.wait_for_error("draining: no new attempts; 1 attempt under way")
            (cluster.folder / "go").write_text("")
            assert await asyncio.to_thread(lambda: host.end()[0]) == 0
            result = await client.wait(run.run_id)
    assert result.outputs == {"only": "held"}
    assert result.steps["only"].attempts == 1


@pytest.mark.parametrize(("drain", "signals"), [("0s", 1), ("1h", 2)], ids=["the drain ends", "a second signal"])
async def test_an_attempt_that_a_host_gives_up_runs_again_on_another(
    cluster: Cluster, drain: str, signals: int
) -> None:
    with cluster.serving() as (address, _), cluster.hosting("--drain-timeout", drain) as host:
        async with AsyncClient(address) as client:
            run = await client.start(_holding())
            host.wait_for_error("holding")
            host.process.send_signal(signal.SIGINT)
            host.wait_for_error("draining")
            if signals == 2:
                host.process.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(lambda: host.end()[0]) == 0
            (cluster.folder / "go").write_text("")
            with cluster.hosting():
                result = await client.wait(run.run_id)
    assert result.steps["only"].attempts == 2


async def _drain_while_holding(host: RunningCommand) -> None:
    host.wait_for_error("holding")
    host.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(lambda: host.end()[0]) == 0


async def test_any_number_of_hosts_that_are_drained_interrupt_a_step_in_succession(cluster: Cluster) -> None:
    with cluster.serving() as (address, _):
        async with AsyncClient(address) as client:
            with cluster.hosting("--drain-timeout", "0s") as first:
                run = await client.start(_holding())
                await _drain_while_holding(first)
            for _ in range(4):
                with cluster.hosting("--drain-timeout", "0s") as host:
                    await _drain_while_holding(host)
            (cluster.folder / "go").write_text("")
            with cluster.hosting():
                result = await client.wait(run.run_id)
            async with client.watch(run.run_id) as events:
                failures = [event.failure async for event in events if isinstance(event, StepRetrying)]
    assert result.steps["only"].attempts == 6
    assert {failure.cause for failure in failures} == {FailureCause.DRAINED}
    assert {failure.message for failure in failures} == {"the host was shut down while the attempt ran"}


async def test_a_host_logs_what_it_hosts_and_no_failures_of_actions(cluster: Cluster) -> None:
    flow = Workflow("failing")  # the id of the run is in the log, and begins with this
    flow.step("only", "boom")
    with cluster.serving() as (address, server), cluster.hosting() as host:
        assert "hosting boom, hold, now (" in host.wait_for_error("hosting")
        async with AsyncClient(address) as client:
            with pytest.raises(RunFailed):
                await client.run(flow)
        host.process.send_signal(signal.SIGTERM)
        assert [line.split(": ")[1].split()[0] for line in host.end()[2].splitlines()] == ["draining", "drained"]
        server.process.send_signal(signal.SIGTERM)
        code, _, logged = server.end()
    assert code == 0
    assert "boom" not in logged
    assert "Traceback" not in logged
    assert "worker" not in logged


async def test_a_host_measures_its_attempts_and_a_server_its_runs_and_steps(cluster: Cluster) -> None:
    listen = ("--metrics-listen", "127.0.0.1:0")
    with cluster.serving(*listen) as (address, server), cluster.hosting(*listen) as host:
        at_server = server.wait_for_error("metrics: ").rpartition("//")[2].partition("/")[0]
        at_host = host.wait_for_error("metrics: ").rpartition("//")[2].partition("/")[0]
        async with AsyncClient(address) as client:
            run = await client.start(_holding())
            await asyncio.to_thread(host.wait_for_error, "holding")
            during = await scrape(at_host)
            (cluster.folder / "go").write_text("")
            await client.wait(run.run_id)
        driven = await scrape(at_server)
        async with asyncio.timeout(GUARD):
            while LAG not in (hosted := await scrape(at_host)).families:
                pass
    assert during.value("attempt_in_flight", action="hold") == 1
    assert hosted.value("attempt_ended_total", action="hold", outcome="succeeded") == 1
    assert hosted.value("attempt_duration_seconds_count", action="hold") == 1
    assert hosted.value("attempt_wait_seconds_count", action="hold") == 1
    assert driven.value("step_ended_total", action="hold", state="succeeded") == 1
    assert driven.value("run_ended_total", state="succeeded") == 1
    assert (driven.value("attempt_ended_total"), hosted.value("step_ended_total")) == (0, 0)


async def test_the_rate_of_an_action_holds_over_all_hosts(cluster: Cluster) -> None:
    (cluster.folder / "limits.yaml").write_text("limits: [{actions: now, rate: 2/s}]")
    flow = Workflow("clock", outputs=[f"s{number}" for number in range(6)])
    for number in range(6):
        flow.step(f"s{number}", "now", {"item": number})
    limits = ("--limits", "limits.yaml")
    with cluster.serving() as (address, _), cluster.hosting(*limits), cluster.hosting(*limits):
        async with AsyncClient(address) as client:
            times = sorted((await client.run(flow)).outputs.values())
    assert times[-1] - times[0] > 1  # without the rate they would all start at once


def test_a_host_waits_for_temporal_as_told_and_says_so(tmp_path: Path) -> None:
    with TemporalServer() as temporal:
        temporal.kill()
        with Cluster(temporal.address, "waited-for", tmp_path).start("host", "tools", "--temporal-wait", "1m") as host:
            warning = host.wait_for_error("waiting")
            assert f"Temporal at {temporal.address} does not answer yet; waiting" in warning
            assert warning.endswith(": Connection refused\n")
            temporal.start()
            assert host.wait_for_output("hosting") == f"hosting 3 actions for Temporal at {temporal.address}\n"


LIMITS = """\
limits:
  - {actions: hold, concurrency: 3}
  - {actions: "*", rate: 5/s}
"""


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        ((), ["there are no actions to host: name a module with actions"]),
        (("no_such_module",), ["no module named 'no_such_module'"]),
        (("tools", "--engine", "local"), ["--engine local: hosts are for temporal only"]),
        (("tools", "--slots", "0"), ["--slots: "]),
        (("tools", "--metrics-listen", "0.0.0.0:0"), ["0.0.0.0:0 is not loopback: metrics are served there only with"]),
        (
            ("tools", "--temporal-address", "127.0.0.1:1"),
            ["Temporal at 127.0.0.1:1 did not answer: Connection refused"],
        ),
        (
            ("tools", "--limits", "limits.yaml"),
            ['the limit "hold": concurrency: ', 'the limit "*": Temporal limits each action alone'],
        ),
    ],
)
def test_an_invalid_option_exits_with_2(cluster: Cluster, arguments: tuple[str, ...], messages: list[str]) -> None:
    (cluster.folder / "limits.yaml").write_text(LIMITS)
    done = cluster.run("host", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert len(lines) == len(messages)
    assert all(message in line for message, line in zip(messages, lines, strict=True))
