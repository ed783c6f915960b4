"""A flaky travel service: an HTTP server that is busy, fails, hangs, and drops connections before it answers.

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

# The faults of the first requests of each kind, in order. Requests for insurances never succeed.
FAULTS = {
    "flights": ["busy", "busy"],
    "hotels": ["unavailable"],
    "trains": ["hang"],
    "cars": ["drop"],
    "insurances": ["broken"] * 1_000,
}
RETRY_AFTER = "1"  # seconds
HANG_SECONDS = 60


class Service(ThreadingHTTPServer):
    """The server, with a tally of its responses.

    Attributes:
        tally: The number of responses of each kind.
        stopping: Set when the server stops, to release hanging requests.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.tally: Counter[str] = Counter()
        self.stopping = Event()
        self._faults = {kind: deque(faults) for kind, faults in FAULTS.items()}
        self._lock = Lock()

    @property
    def address(self) -> str:
        """The URL of the server."""
        return f"http://127.0.0.1:{self.server_port}"

    def fault(self, kind: str) -> str:
        """Return the fault of this request; `answered`: none."""
        with self._lock:
            remaining = self._faults.get(kind)
            fault = remaining.popleft() if remaining else "answered"
            self.tally[fault] += 1
            return fault

    def report(self) -> str:
        """Return the tally as one line."""
        return ", ".join(f"{count} × {name}" for name, count in sorted(self.tally.items()))


class Handler(BaseHTTPRequestHandler):
    """Answers `GET /flights?city=Oslo` with a price."""

    server: Service
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        kind, city = address.path.strip("/"), parse_qs(address.query).get("city", [""])[0]
        match self.server.fault(kind):
            case "busy":
                self._reply(HTTPStatus.TOO_MANY_REQUESTS, {"error": "one at a time"}, {"Retry-After": RETRY_AFTER})
            case "unavailable":
                self._reply(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "back in a moment"})
            case "broken":
                self._reply(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "internal error"})
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
            self._reply(HTTPStatus.NOT_FOUND, {"error": f"no prices for {kind}"})

    def _reply(self, code: HTTPStatus, body: dict[str, object], headers: dict[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        with suppress(ConnectionError):  # the caller has given up
            self.send_response(code)
            for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Log nothing: the example's output is that of its run."""


@contextmanager
def flaky_service() -> Iterator[Service]:
    """Serve on a free port of this machine."""
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
