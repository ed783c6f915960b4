"""The trip's actions. They raise exceptions; the workflow decides about retries and fallbacks."""

import os

import httpx

from stepwave import action

TLS = httpx.create_ssl_context()  # made once: reading all certificates blocks the event loop


@action
async def quote(kind: str, city: str) -> dict[str, object]:
    """Return the travel service's price of something in a city."""
    async with httpx.AsyncClient(base_url=os.environ["TRAVEL_SERVICE"], timeout=30, verify=TLS) as client:
        answer = await client.get(f"/{kind}", params={"city": city})
        answer.raise_for_status()  # the server classifies the status code, and respects `Retry-After`
        price: dict[str, object] = answer.json()
        return price


@action
def offer(city: str, quotes: list[dict[str, object]]) -> str:
    """Combine quotes into one offer."""
    lines = [f"{quote['kind']}: {quote['price']} €" for quote in quotes]
    return f"A trip to {city}. {', '.join(lines)}."
