"""The sync client and a real server on a thread of this process, by the pytest fixtures."""

import _thread
import inspect
import threading
from collections.abc import Callable, Iterable

import pytest

from integration.client.fake import GUARD
from stepwave import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    EventStream,
    NotFound,
    ParallelFailed,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunHandle,
    State,
    StepStarted,
    SyncEventStream,
    SyncRunHandle,
    Workflow,
    action,
)


@action
async def boom(input: object) -> None:
    raise LookupError("nothing there")


@action
def interrupt(input: object) -> None:
    """Send SIGINT, as Ctrl-C does."""
    _thread.interrupt_main()


@pytest.fixture
def stepwave_actions() -> Iterable[object]:
    return [boom, interrupt]


def pair() -> Workflow:
    flow = Workflow("pair")
    first = flow.step("first", "core.echo", {"city": flow.input["city"]})
    flow.step("second", "core.echo", first.output["city"])
    return flow


def blocked() -> Workflow:
    flow = Workflow("blocked")
    flow.step("a", "core.sleep", {"seconds": 600})
    return flow


def public(kind: type) -> dict[str, Callable[..., object]]:
    return {name: member for name, member in inspect.getmembers(kind, callable) if not name.startswith("_")}


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    asynchronous, synchronous = public(AsyncClient), public(Client)
    assert set(synchronous) - set(asynchronous) == {"stream"}
    assert set(asynchronous) - set(synchronous) == set()
    for name, method in synchronous.items():
        expected = inspect.signature(asynchronous["run" if name == "stream" else name]).parameters
        given = inspect.signature(method).parameters
        assert list(given) == [each for each in expected if not (name == "stream" and each == "check")], name
    assert list(inspect.signature(Client).parameters) == list(inspect.signature(AsyncClient).parameters)
    assert set(public(SyncRunHandle)) == set(public(RunHandle))
    assert set(public(SyncEventStream)) == set(public(EventStream))


def test_a_workflow_runs_and_answers(stepwave_client: Client) -> None:
    result = stepwave_client.run(pair(), {"city": "Oslo"})
    assert result.outputs == {"second": "Oslo"}
    assert stepwave_client.result(result.run_id) == result
    assert stepwave_client.wait(result.run_id) == result
    assert [step.step_id for step in stepwave_client.steps(result.run_id)] == ["first", "second"]


def test_events_are_iterated_over(stepwave_client: Client) -> None:
    with stepwave_client.stream(pair(), {"city": "Oslo"}) as run:
        events = list(run)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert isinstance(events[-1], RunFinished)
    assert run.result.outputs == {"second": "Oslo"}
    with stepwave_client.watch(run.run_id, after=2) as watch:
        assert [event.sequence for event in watch] == [event.sequence for event in events[2:]]


def test_iterating_outside_the_context_is_an_error(stepwave_client: Client) -> None:
    before = "enter the context manager before iterating"
    with pytest.raises(RuntimeError, match=rf"{before}.*: `with client\.watch\(…\) as events:`"):
        next(stepwave_client.watch("r"))
    with pytest.raises(RuntimeError, match=rf"{before}.*: `with client\.stream\(…\) as run:`"):
        next(stepwave_client.stream(pair()))
    with pytest.raises(RuntimeError, match=rf"{before}.*: `with client\.stream\(…\) as run:`"):
        next(stepwave_client.stream(pair()).text("first"))


def test_leaving_early_cancels_the_run(stepwave_client: Client) -> None:
    with stepwave_client.stream(blocked()) as run:
        for event in run:
            if isinstance(event, StepStarted):
                break
        with pytest.raises(RuntimeError, match="has not ended"):
            _ = run.result
    assert stepwave_client.wait(run.run_id, check=False, timeout=GUARD).state is State.CANCELLED


def test_a_run_can_be_cancelled_and_followed_to_its_end(stepwave_client: Client) -> None:
    with stepwave_client.stream(blocked()) as run:
        for event in run:
            if isinstance(event, StepStarted):
                run.cancel("no longer wanted")
    assert run.result.state is State.CANCELLED


def test_the_text_of_a_step_ends_when_its_run_is_cancelled_by_the_handle(stepwave_client: Client) -> None:
    with stepwave_client.stream(blocked()) as run:
        next(run)
        run.cancel()
        assert list(run.text("a")) == []
        assert run.result.state is State.CANCELLED


def test_a_wait_for_a_run_that_was_cancelled_by_its_id_raises_run_cancelled(stepwave_client: Client) -> None:
    run_id = stepwave_client.start(blocked()).run_id
    stepwave_client.cancel(run_id)
    with pytest.raises(RunCancelled):
        stepwave_client.wait(run_id)
    assert stepwave_client.wait(run_id, check=False).state is State.CANCELLED


def test_an_interrupt_from_the_keyboard_cancels_the_run(stepwave_client: Client) -> None:
    flow = blocked()
    flow.step("b", "interrupt")
    with pytest.raises(KeyboardInterrupt):
        stepwave_client.run(flow, run_id="interrupted")
    assert stepwave_client.wait("interrupted", check=False, timeout=GUARD).state is State.CANCELLED


def test_only_the_callers_thread_reads_a_stream(stepwave_client: Client) -> None:
    """Otherwise an interrupt could leave a lock taken that gRPC's own thread waits for, and later calls would hang."""
    before = set(threading.enumerate())
    with stepwave_client.stream(blocked()) as run:
        next(iter(run))
        assert set(threading.enumerate()) == before


def test_a_timeout_cancels_the_run(stepwave_client: Client) -> None:
    with pytest.raises(DeadlineExceeded, match="did not end within"):
        stepwave_client.run(blocked(), run_id="slow", timeout=0.2)
    assert stepwave_client.wait("slow", check=False, timeout=GUARD).state is State.CANCELLED


def test_a_failed_run_raises_unless_check_is_false(stepwave_client: Client) -> None:
    flow = Workflow("failing")
    flow.step("a", boom)
    with pytest.raises(RunFailed, match="step 'a' failed: LookupError: nothing there"):
        stepwave_client.run(flow)
    assert stepwave_client.run(flow, check=False).state is State.FAILED


def test_parallel_answers_in_the_order_of_its_arguments(stepwave_client: Client) -> None:
    assert stepwave_client.parallel(["core.echo", "core.echo"], 7) == [7, 7]
    assert stepwave_client.parallel([]) == []
    with pytest.raises(ParallelFailed) as caught:
        stepwave_client.parallel(["core.echo", boom], 7)
    assert (caught.value.index, caught.value.partial) == (1, (7, None))


def test_runs_are_started_listed_cancelled_and_deleted(stepwave_client: Client) -> None:
    run_id = stepwave_client.start(blocked()).run_id
    assert [run.run_id for run in stepwave_client.runs(states=["running"])] == [run_id]
    stepwave_client.cancel(run_id, "enough")
    assert stepwave_client.wait(run_id, check=False, timeout=GUARD).state is State.CANCELLED
    assert stepwave_client.get(run_id).state is State.CANCELLED
    stepwave_client.delete(run_id)
    with pytest.raises(NotFound):
        stepwave_client.get(run_id)


def test_the_results_so_far_of_a_run_under_way_are_listed(stepwave_client: Client) -> None:
    flow = Workflow("held")
    flow.step("held", "core.sleep", {"seconds": 600}, depends_on=[flow.step("done", "core.echo", {"n": 1})])
    run_id = stepwave_client.start(flow).run_id
    with stepwave_client.watch(run_id) as events:
        for event in events:
            if isinstance(event, StepStarted) and event.step_id == "held":
                break
    found = {step.step_id: (step.state, step.output) for step in stepwave_client.steps(run_id)}
    assert found == {"done": (State.SUCCEEDED, {"n": 1}), "held": (State.RUNNING, None)}
    stepwave_client.cancel(run_id)


def test_the_server_explains_runs_and_lists_its_capabilities(stepwave_client: Client) -> None:
    assert stepwave_client.plan(pair()).wave_sizes == (1, 1)
    assert "boom" in {info.name for info in stepwave_client.actions()}
    assert stepwave_client.workflows() == []
    assert stepwave_client.server_info().engine == "local"


def test_threads_may_share_a_client(stepwave_client: Client) -> None:
    outputs: list[object] = []
    threads = [
        threading.Thread(target=lambda: outputs.append(stepwave_client.run(pair(), {"city": "Oslo"}).outputs["second"]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GUARD)
    assert outputs == ["Oslo"] * 8


def test_a_client_that_another_thread_closes_as_a_call_begins_raises_runtime_error(
    stepwave_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(stepwave_server)
    client.actions()

    def close_first() -> tuple[tuple[str, str], ...]:
        client.close()
        return ()

    monkeypatch.setattr("stepwave._transport.blocking.trace_metadata", close_first)
    with pytest.raises(RuntimeError, match="this client is closed"):
        client.actions()


def test_a_client_that_another_thread_closes_while_it_watches_raises_runtime_error_and_logs_nothing(
    stepwave_server: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(stepwave_server)

    def watch(run_id: str) -> None:
        with client.watch(run_id) as events:
            for event in events:
                if event.kind == "step_started":
                    threading.Thread(target=client.close).start()

    with Client(stepwave_server) as other:
        run_id = other.start(blocked()).run_id
        with pytest.raises(RuntimeError, match="this client is closed"):
            watch(run_id)
        other.cancel(run_id)
    assert [record for record in caplog.records if record.name == "stepwave.connection"] == []


@pytest.mark.stepwave(actions=[action("marked")(lambda input: "from the marker")], max_attempts=1)
def test_the_marker_brings_actions_and_settings(stepwave_client: Client) -> None:
    assert stepwave_client.parallel(["marked"]) == ["from the marker"]
    assert stepwave_client.server_info().limits.max_attempts_in_flight == 1
    assert "boom" in {info.name for info in stepwave_client.actions()}


@pytest.mark.stepwave
async def test_the_server_of_the_fixtures_serves_asynchronous_tests_too(stepwave_server: str) -> None:
    async with AsyncClient(stepwave_server) as client:
        assert (await client.run(pair(), {"city": "Oslo"})).outputs == {"second": "Oslo"}


def test_a_local_server_listens_on_a_private_socket(stepwave_server: str) -> None:
    assert stepwave_server.startswith("unix:")


def test_a_client_may_have_a_local_server() -> None:
    with Client.local([boom], entry_points=False) as client:
        assert client.run(pair(), {"city": "Oslo"}).outputs == {"second": "Oslo"}


def test_a_server_that_cannot_start_raises_in_the_test() -> None:
    with pytest.raises(Exception, match="no_such_setting"), Client.local(no_such_setting=1):
        raise AssertionError("not reached")
