"""Server-sent events, in whatever parts their bytes come."""

import re

import pytest

from stepwave_server.actions.failures import ActionFailed
from stepwave_server.actions.outbound import sse
from stepwave_server.actions.outbound.sse import Events

STREAM = (
    b"\xef\xbb\xbf: comment\ndata: one\n\nevent: x\r\ndata:two\r\ndata: lines\r\n\r\n"
    b"data: three\rdata: four\r\r: end\n\n"
)
TEXTS = ["one", "two\nlines", "three\nfour"]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 1_000])
def test_the_parts_of_a_stream_make_no_difference(size: int) -> None:
    events = Events(1_000)
    parts = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]
    assert [text for part in parts for text in events.feed(part)] == TEXTS


def test_a_long_line_in_small_parts_is_scanned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scanned = 0

    class Pattern:
        def split(self, data: bytes) -> list[bytes]:
            nonlocal scanned
            scanned += len(data)
            return re.split(rb"\n", data)

    monkeypatch.setattr(sse, "_LINE_END", Pattern())
    events = Events(1_000_000)
    for _ in range(10_000):
        assert events.feed(b"x") == []
    assert scanned == 10_000


@pytest.mark.parametrize("part", [b"x", b"data: x\n"], ids=["one line", "many lines"])
def test_an_event_has_a_bound(part: bytes) -> None:
    events = Events(100)
    fitting = 100 // len(part.rstrip())
    for _ in range(fitting):
        events.feed(part)
    with pytest.raises(ActionFailed, match="more than the 100 bytes allowed"):
        events.feed(part)
