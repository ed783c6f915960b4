"""Words for people: short, on one line, and harmless to a terminal."""

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stepwave_builders import failure

from stepwave import Blob
from stepwave._results import Counts, SkipCause, SkipReason
from stepwave.cli.text import (
    counts_text,
    duration_text,
    failure_line,
    one_line,
    plural,
    skip_line,
    value_text,
)
