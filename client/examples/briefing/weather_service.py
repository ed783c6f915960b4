"""A small weather service: an HTTP server that answers from the records in weather.json.

`python weather_service.py` prints its address, then serves until it is interrupted.
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

# The service is local and would answer in a millisecond. The pause simulates a remote one.
LATENCY_SECONDS = 1.0

MAX_HOLD_SECONDS = 60

RECORDS: dict[str, dict[str, dict[str, object]]] = json.loads(
    Path(__file__).with_name("weather.json").read_text("utf-8")
)


class Handler(BaseHTTPRequestHandler):
    """Answers `GET /weather?city=Lisbon&day=2026-11-24`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        time.sleep(LATENCY_SECONDS)
        assert isinstance(self.server, WeatherServer)
        self.server.open.wait(MAX_HOLD_SECONDS)
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        city, day = query.get("city", ""), query.get("day", "")
        record = RECORDS.get(city, {}).get(day)
        if address.path != "/weather" or record is None:
            self._reply(HTTPStatus.NOT_FOUND, {"error": f"no weather for {city!r} on {day!r}"})
        else:
            self._reply(HTTPStatus.OK, {"city": city, "day": day, **record})

    def _reply(self, code: HTTPStatus, body: dict[str, object]) -> None:
        content = json.dumps(body).encode()
        with suppress(ConnectionError):  # the caller has gone
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Log nothing: the example's output is that of its run."""


class WeatherServer(ThreadingHTTPServer):
    """The server.

    Attributes:
        open: Answers are held back until it is set.
    """

    def __init__(self, opening: Event) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.open = opening


@contextmanager
def weather_service(opening: Event | None = None) -> Iterator[str]:
    """Serve on a free port of this machine, and yield the address.

    Args:
        opening: Answers are held back until it is set; `None`: they are not.
    """
    if opening is None:
        opening = Event()
        opening.set()
    with WeatherServer(opening) as server:
        thread = Thread(target=server.serve_forever, name="weather service")
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def main() -> None:
    with suppress(KeyboardInterrupt), weather_service() as address:
        print(address, flush=True)
        Event().wait()


if __name__ == "__main__":
    main()
