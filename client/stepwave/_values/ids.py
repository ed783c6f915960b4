"""Run ids that are short and readable, as `briefing-7k3f9q2m`."""

import re
import secrets

__all__ = ["new_run_id", "rerun_id"]

ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"  # no look-alikes
MOST_SLUG = 40
LENGTH = 8

_MADE_HERE = re.compile(f"(.+)-[{ALPHABET}]{{{LENGTH}}}")


def new_run_id(workflow_name: str) -> str:
    """Make a run id that begins with the workflow's name."""
    slug = re.sub(r"[^a-z0-9]+", "-", workflow_name.lower())[:MOST_SLUG].strip("-") or "run"
    return f"{slug}-{''.join(secrets.choice(ALPHABET) for _ in range(LENGTH))}"


def rerun_id(run_id: str) -> str:
    """Make the id of a run that repeats another: it begins alike."""
    made = _MADE_HERE.fullmatch(run_id)
    return new_run_id(made[1] if made else run_id)
