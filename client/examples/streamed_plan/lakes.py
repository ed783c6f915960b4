"""The actions of the plan. They only pause where real ones would wait for a service or a model."""

import asyncio
import json
from pathlib import Path
from typing import Literal, TypedDict

from stepwave import action


class Lake(TypedDict):
    """The facts of a lake."""

    name: str
    depth_m: int
    area_km2: int


LAKES: list[Lake] = json.loads(Path(__file__).with_name("lakes.json").read_text("utf-8"))


@action
async def look_up(lake: str) -> Lake:
    """Return the facts about a lake."""
    await asyncio.sleep(0.8)
    return next(known for known in LAKES if known["name"] == lake)


@action
async def most(of: Literal["depth_m", "area_km2"], lakes: list[Lake]) -> str:
    """Return the name of the lake with the most of something."""
    await asyncio.sleep(0.3)
    return max(lakes, key=lambda lake: lake[of])["name"]


@action
async def tell(deepest: str, largest: str) -> str:
    """Return the answer."""
    await asyncio.sleep(0.3)
    return f"The deepest lake is {deepest}, and the largest is {largest}."
