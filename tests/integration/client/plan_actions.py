"""The actions of the tests of open runs, and the lines of a planner."""

import asyncio

from stepwave import (
    action,
)

__all__ = ["boom", "hold", "line", "shout"]


@action
async def shout(text: str) -> str:
    return text.upper()


@action
async def boom() -> None:
    raise LookupError("nothing there")


@action
async def hold() -> None:
    await asyncio.Event().wait()


def line(step_id: str, text: str) -> str:
    return f'{{"id": "{step_id}", "action": "shout", "input": {{"text": {text}}}}}\n'
