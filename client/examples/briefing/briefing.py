"""The briefing as a Python program: the same workflow as briefing.yaml, built and run with the SDK."""

import json
from pathlib import Path

from tools import calendar, combine, search

from stepwave import Client, RunResult, Workflow

INPUT = Path(__file__).with_name("input.json")


def input_for(services: str) -> dict[str, str]:
    """Return the input, with services at another URL than that of the file."""
    given: dict[str, str] = json.loads(INPUT.read_text("utf-8"))
    return {**given, "calendar_url": f"{services}/calendar.ics", "weather_url": f"{services}/weather"}


def briefing(*, max_parallelism: int = 0) -> Workflow:
    """Build the workflow; with `max_parallelism=1`, its steps run one after another."""
    flow = Workflow("briefing", max_parallelism=max_parallelism)
    day, city, topic = flow.input["day"], flow.input["city"], flow.input["topic"]
    where = {"city": city, "day": day}
    reading = flow.step("search", search, {"query": topic})
    events = flow.step("calendar", calendar, {"day": day, "url": flow.input["calendar_url"]})
    forecast = flow.step("weather", "http.request", {"url": flow.input["weather_url"], "query": where})
    sources = {"events": events.output, "weather": forecast.output["body"], "reading": reading.output}
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
