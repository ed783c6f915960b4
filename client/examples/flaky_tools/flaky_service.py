"""A travel service on a bad day: an HTTP server that is busy, breaks, hangs and hangs up before it answers.

`python flaky_service.py` prints its address, then serves until it is interrupted.
"""

import json
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from urllib.parse import parse_qs, urlsplit

PRICES = {"flights": 240, "hotels": 310, "trains": 95, "cars": 130}

# What goes wrong with the first requests of every kind, in order; insurances are never had.
TROUBLES = {
    "flights": ["busy", "busy"],
    "hotels": ["unavailable"],
    "trains": ["hang"],
    "cars": ["drop"],
    "insurances": ["broken"] * 1_000,
}
RETRY_AFTER = "1"  # seconds
HANG_SECONDS = 60


class Service(ThreadingHTTPServer):
    """The server, and what it did.

    Attributes:
        tally: How often it did what.
        stopping: Set when it ends: what hangs lets go.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.tally: Counter[str] = Counter()
        self.stopping = Event()
        self._troubles = {kind: deque(troubles) for kind, troubles in TROUBLES.items()}
        self._lock = Lock()

    @property
    def address(self) -> str:
        """Where it is, as a URL."""
        return f"http://127.0.0.1:{self.server_port}"

    def trouble(self, kind: str) -> str:
        """Return what goes wrong now; `answered`: nothing."""
        with self._lock:
            waiting = self._troubles.get(kind)
            trouble = waiting.popleft() if waiting else "answered"
            self.tally[trouble] += 1
            return trouble

    def report(self) -> str:
        """Say what it did, in a line."""
        return ", ".join(f"{count} × {name}" for name, count in sorted(self.tally.items()))


class Handler(BaseHTTPRequestHandler):
    """Answers `GET /flights?city=Oslo` with a price."""

    server: Service
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        kind, city = address.path.strip("/"), parse_qs(address.query).get("city", [""])[0]
        match self.server.trouble(kind):
            case "busy":
                self._reply(HTTPStatus.TOO_MANY_REQUESTS, {"error": "one at a time"}, {"Retry-After": RETRY_AFTER})
            case "unavailable":
                self._reply(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "back in a moment"})
            case "broken":
                self._reply(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "a slip"})
            case "hang":
                self.server.stopping.wait(HANG_SECONDS)
                self.close_connection = True
            case "drop":
                self.close_connection = True
            case _:
                self._answer(kind, city)

    def _answer(self, kind: str, city: str) -> None:
        if kind in PRICES:
            self._reply(HTTPStatus.OK, {"kind": kind, "city": city, "price": PRICES[kind]})
        else:
            self._reply(HTTPStatus.NOT_FOUND, {"error": f"nobody sells {kind}"})

    def _reply(self, code: HTTPStatus, body: dict[str, object], headers: dict[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        with suppress(ConnectionError):  # the caller has given up
            self.send_response(code)
            for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Stay silent: the example's output belongs to its run."""


@contextmanager
def flaky_service() -> Iterator[Service]:
    """Serve on a free port of this machine while the context lasts."""
    with Service() as service:
        thread = Thread(target=service.serve_forever, name="flaky service")
        thread.start()
        try:
            yield service
        finally:
            service.stopping.set()
            service.shutdown()
            thread.join()


def main() -> None:
    with suppress(KeyboardInterrupt), flaky_service() as service:
        print(service.address, flush=True)
        Event().wait()


if __name__ == "__main__":
    main()
