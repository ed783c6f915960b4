"""Short forms of runs that have one step of `http.request`."""

from integration.server.build import finished, flow, state_of, step, value_of
from integration.server.raw_client import RawClient
from stepwave.v1 import run_pb2

__all__ = ["failure", "output", "request"]


async def request(client: RawClient, url: str, **given: object) -> run_pb2.StepResult:
    """Run a workflow of one request, and return the result of its step."""
    events = await client.run(flow(step("s", "http.request", given={"url": url, **given})))
    return finished(events)["s"]


async def output(client: RawClient, url: str, **given: object) -> dict[str, object]:
    result = await request(client, url, **given)
    assert state_of(result.state) == "succeeded", result.failure
    value = value_of(result.output)
    assert isinstance(value, dict)
    return value


async def failure(client: RawClient, url: str, **given: object) -> run_pb2.Failure:
    result = await request(client, url, **given)
    assert state_of(result.state) == "failed"
    assert dict(result.failure.details) == {}, "a failure that is expected has no traceback"
    return result.failure
