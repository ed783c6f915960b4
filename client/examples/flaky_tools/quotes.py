"""The trip's actions. An exception says what went wrong; what to do then is the workflow's affair."""

import os

import httpx

from stepwave import action

TLS = httpx.create_ssl_context()  # made once: reading all certificates holds up the event loop


@action
async def quote(kind: str, city: str) -> dict[str, object]:
    """Ask the travel service what something costs in a city."""
    async with httpx.AsyncClient(base_url=os.environ["TRAVEL_SERVICE"], timeout=30, verify=TLS) as client:
        answer = await client.get(f"/{kind}", params={"city": city})
        answer.raise_for_status()  # 429, 503 and 500 are told apart by their status, and `Retry-After` is heeded
        found: dict[str, object] = answer.json()
        return found


@action
def offer(city: str, quotes: list[dict[str, object]]) -> str:
    """Put quotes together into one offer."""
    lines = [f"{quote['kind']}: {quote['price']} €" for quote in quotes]
    return f"A trip to {city}. {', '.join(lines)}."
