"""The weather and the calendar, as an HTTP server: it answers from weather.json and with calendar.ics.

`python services.py` serves at the address in input.json until it is interrupted.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from urllib.parse import parse_qs, urlsplit

# The server is local and would answer in a millisecond. The pauses simulate remote ones.
WEATHER_LATENCY_SECONDS = 1.0
CALENDAR_LATENCY_SECONDS = 0.8

MAX_HOLD_SECONDS = 60
PORT = 8765

HERE = Path(__file__).parent
RECORDS: dict[str, dict[str, dict[str, object]]] = json.loads((HERE / "weather.json").read_text("utf-8"))


class Handler(BaseHTTPRequestHandler):
    """Answers `GET /weather?city=Lisbon&day=2026-11-24` and `GET /calendar.ics`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, Services)
        address = urlsplit(self.path)
        time.sleep(WEATHER_LATENCY_SECONDS if address.path == "/weather" else CALENDAR_LATENCY_SECONDS)
        self.server.open.wait(MAX_HOLD_SECONDS)
        if address.path == "/calendar.ics":
            self._reply(HTTPStatus.OK, "text/calendar; charset=utf-8", (HERE / "calendar.ics").read_bytes())
            return
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        city, day = query.get("city", ""), query.get("day", "")
        record = RECORDS.get(city, {}).get(day)
        if address.path != "/weather" or record is None:
            self._answer(HTTPStatus.NOT_FOUND, {"error": f"no weather for {city!r} on {day!r}"})
        else:
            self._answer(HTTPStatus.OK, {"city": city, "day": day, **record})

    def _answer(self, code: HTTPStatus, value: dict[str, object]) -> None:
        self._reply(code, "application/json", json.dumps(value).encode())

    def _reply(self, code: HTTPStatus, content_type: str, content: bytes) -> None:
        with suppress(ConnectionError):  # the caller has gone
            self.send_response(code)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Log nothing: the example's output is that of its run."""


class Services(ThreadingHTTPServer):
    """The server.

    Attributes:
        open: Answers are held back until it is set.
    """

    def __init__(self, opening: Event, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.open = opening


@contextmanager
def services(opening: Event | None = None, port: int = 0) -> Iterator[str]:
    """Serve on this machine, and yield the address.

    Args:
        opening: Answers are held back until it is set; `None`: they are not.
        port: The port; 0: a free one.
    """
    if opening is None:
        opening = Event()
        opening.set()
    with Services(opening, port) as server:
        thread = Thread(target=server.serve_forever, name="services")
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def main() -> None:
    with suppress(KeyboardInterrupt), services(port=PORT) as address:
        print(address, flush=True)
        Event().wait()


if __name__ == "__main__":
    main()
