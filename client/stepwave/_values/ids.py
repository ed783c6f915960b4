"""Short, readable run ids such as `briefing-7k3f9q2m`."""

import re
import secrets

__all__ = ["new_run_id", "rerun_id"]

ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"  # no look-alikes
MAX_SLUG_LENGTH = 40
SUFFIX_LENGTH = 8

_GENERATED = re.compile(f"(.+)-[{ALPHABET}]{{{SUFFIX_LENGTH}}}")


def new_run_id(workflow_name: str) -> str:
    """Make a run id that begins with the workflow's name."""
    slug = re.sub(r"[^a-z0-9]+", "-", workflow_name.lower())[:MAX_SLUG_LENGTH].strip("-") or "run"
    number = secrets.randbelow(len(ALPHABET) ** SUFFIX_LENGTH)  # one call of the system for all characters
    suffix = ""
    for _ in range(SUFFIX_LENGTH):
        number, index = divmod(number, len(ALPHABET))
        suffix += ALPHABET[index]
    return f"{slug}-{suffix}"


def rerun_id(run_id: str) -> str:
    """Make the id of a rerun: it begins like the id of the earlier run."""
    made = _GENERATED.fullmatch(run_id)
    return new_run_id(made[1] if made else run_id)
