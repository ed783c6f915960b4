"""Streams the answer of a model to the terminal while another step runs; `python client/examples/chat/chat.py`.

It works from any folder and uses no network beyond this machine: the model is a fake.
"""

import asyncio

from model_service import model_service

from stepwave import AsyncClient, Workflow


def lake(service: str) -> Workflow:
    """Return the workflow: look up a lake and the weather at once, and let a model say what the lake is."""
    flow = Workflow("lake")
    found = flow.step("find", "http.request", {"url": f"{service}/lake"})
    flow.step("weather", "http.request", {"url": f"{service}/weather"})
    flow.step(
        "answer",
        "chat.complete",
        {
            "url": f"{service}/v1",
            "model": "small",
            "messages": [
                {"role": "system", "content": "Describe this lake in one sentence."},
                {"role": "user", "content": found.output["body"]},
            ],
        },
    )
    return flow


async def show(service: str) -> None:
    """Run the workflow, and show each word of the model as it comes."""
    opened = [service.removeprefix("http://")]
    async with AsyncClient.local(http_allow=opened) as client, client.run(lake(service)) as events:
        async for event in events:
            if event.kind == "step_chunk":
                print(event.value, end="", flush=True)
            if event.kind == "step_finished" and event.result.step_id == "weather":
                print(f" [tomorrow: {event.result.output['body']}]", end="", flush=True)
        result = await events
    print(f"\n{result.outputs['answer']['usage']['completion_tokens']} words")


if __name__ == "__main__":
    with model_service() as address:
        asyncio.run(show(address))
