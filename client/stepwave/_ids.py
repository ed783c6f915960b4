"""Run ids that are short and readable, as `briefing-7k3f9q2m`."""

import re
import secrets

__all__ = ["new_run_id"]

ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"  # no look-alikes
MOST_SLUG = 40


def new_run_id(workflow_name: str) -> str:
    """Make a run id that begins with the workflow's name."""
    slug = re.sub(r"[^a-z0-9]+", "-", workflow_name.lower())[:MOST_SLUG].strip("-") or "run"
    return f"{slug}-{''.join(secrets.choice(ALPHABET) for _ in range(8))}"
