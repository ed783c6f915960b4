"""The briefing as a Python program: the same workflow as briefing.yaml, built and run with the SDK."""

import json
from pathlib import Path

from tools import calendar, combine, search, weather

from stepwave import Client, RunResult, Workflow

INPUT = Path(__file__).with_name("input.json")


def briefing(*, max_parallelism: int = 0) -> Workflow:
    """Build the workflow; with `max_parallelism=1`, its steps run one after another."""
    flow = Workflow("briefing", max_parallelism=max_parallelism)
    day, city, topic = flow.input["day"], flow.input["city"], flow.input["topic"]
    reading = flow.step("search", search, {"query": topic})
    events = flow.step("calendar", calendar, {"day": day})
    forecast = flow.step("weather", weather, {"city": city, "day": day})
    sources = {"events": events.output, "weather": forecast.output, "reading": reading.output}
    flow.step("combine", combine, {"day": day, "topic": topic, **sources})
    return flow


def text_of(result: RunResult) -> str:
    """Return the text of a result of the briefing."""
    text: str = result.outputs["combine"]["text"]
    return text


def main() -> None:
    with Client() as client:
        result = client.run(briefing(), json.loads(INPUT.read_text("utf-8")))
    print(text_of(result))


if __name__ == "__main__":
    main()
