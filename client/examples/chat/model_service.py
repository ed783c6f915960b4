"""A fake model, and a service with facts: an HTTP server that speaks the protocol of OpenAI's chat completions.

`python model_service.py` prints its address, then serves until it is interrupted.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

FACTS = {"/lake": "Hornindalsvatnet: 514 m", "/weather": "sun, 21 °C"}
ANSWER = "{name} is the deepest lake here, with a depth of {depth}."
SECONDS = {"/lake": 0.2, "/weather": 0.6}
SECONDS_PER_WORD = 0.1


class Handler(BaseHTTPRequestHandler):
    """Answers `GET /lake` and `GET /weather` with facts, and `POST /v1/chat/completions` with words, one by one."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        time.sleep(SECONDS[self.path])
        content = FACTS[self.path].encode()
        self._start("text/plain; charset=utf-8", ("Content-Length", str(len(content))))
        self.wfile.write(content)

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name, _, depth = request["messages"][-1]["content"].partition(": ")
        words = ANSWER.format(name=name, depth=depth).split(" ")
        self._start("text/event-stream", ("Connection", "close"))
        for number, word in enumerate(words):
            time.sleep(SECONDS_PER_WORD)
            self._say({"content": word if number == 0 else f" {word}"})
        self._say({}, finish_reason="stop", usage={"completion_tokens": len(words)})
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _say(self, delta: dict[str, str], finish_reason: str | None = None, usage: object = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        part = {"model": "small", "choices": [choice], "usage": usage}
        self.wfile.write(f"data: {json.dumps(part)}\n\n".encode())

    def _start(self, content_type: str, header: tuple[str, str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header(*header)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Log nothing: the example's output is that of its run."""


@contextmanager
def model_service() -> Iterator[str]:
    """Serve on a free port of this machine, and yield the URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as service:
        service.daemon_threads = True
        thread = Thread(target=service.serve_forever, name="model service")
        thread.start()
        try:
            yield f"http://127.0.0.1:{service.server_port}"
        finally:
            service.shutdown()
            thread.join()


def main() -> None:
    with suppress(KeyboardInterrupt), model_service() as address:
        print(address, flush=True)
        Event().wait()


if __name__ == "__main__":
    main()
