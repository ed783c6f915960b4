"""A program that speaks the protocol of MCP by hand, and whose tools break it.

Its argument says how it starts: `mute` and `text` answer nothing, `stubborn` ignores SIGTERM as well, `json`
logs a line of JSON first, `odd`, `refuse` and `half` spoil the handshake; default: well.
"""

import json
import os
import signal
import sys
import time
from typing import Any


def send(message: dict[str, Any]) -> None:
    """Write a message."""
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def receive() -> dict[str, Any]:
    """Read a message; at the end of input, end the process."""
    line = sys.stdin.readline()
    if not line:
        sys.exit()
    message: dict[str, Any] = json.loads(line)
    return message


def report(text: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def say(number: int, text: str) -> None:
    """Answer a call with text."""
    send({"id": number, "result": {"content": [{"type": "text", "text": text}]}})


def begin(number: int) -> None:
    """Report progress of a call."""
    send({"method": "notifications/progress", "params": {"progressToken": number, "progress": 0, "total": 1}})


def half(number: int, arguments: dict[str, Any]) -> None:
    """Write a part of a message."""
    sys.stdout.write('{"jsonrpc": "2.0", "id":\n')
    sys.stdout.flush()


def odd(number: int, arguments: dict[str, Any]) -> None:
    """Answer with a result of another form."""
    send({"id": number, "result": {"content": 3}})


def odd_blob(number: int, arguments: dict[str, Any]) -> None:
    """Answer with data that are not Base64."""
    send({"id": number, "result": {"content": [{"type": "image", "data": "%%", "mimeType": "image/png"}]}})


def odd_kind(number: int, arguments: dict[str, Any]) -> None:
    """Answer with a malformed media type."""
    send({"id": number, "result": {"content": [{"type": "image", "data": "AAE=", "mimeType": "a\nb"}]}})


def odd_progress(number: int, arguments: dict[str, Any]) -> None:
    """Report malformed progress, and answer."""
    for params in (None, {"progressToken": number, "progress": None}, {"progressToken": number, "progress": "half"}):
        send({"method": "notifications/progress", "params": params} if params else {"method": "notifications/progress"})
    send({"method": "notifications/message", "params": {"level": "loud"}})
    say(number, "answered")


def odd_error(number: int, arguments: dict[str, Any]) -> None:
    """Report an error without text."""
    send({"id": number, "result": {"content": [], "structuredContent": {"limit": 3}, "isError": True}})


def blames(number: int, arguments: dict[str, Any]) -> None:
    """Write a line to standard error, and answer."""
    report("the key of another run")
    say(number, "reported")


def prints(number: int, arguments: dict[str, Any]) -> None:
    """Write a line between the messages."""
    sys.stdout.write("a debug line of a tool\n")
    say(number, "printed")


def prints_json(number: int, arguments: dict[str, Any]) -> None:
    """Write a line of JSON that is no message between the messages."""
    sys.stdout.write('{"level": 30, "msg": "a tool was called"}\n')
    say(number, "logged")


def starts_late(number: int, arguments: dict[str, Any]) -> None:
    """Write text without a newline before an answer, whose members are ordered as JavaScript's library does."""
    answer = {"result": {"content": [{"type": "text", "text": "found"}]}, "jsonrpc": "2.0", "id": number}
    sys.stdout.write(f"{arguments['text']}{json.dumps(answer)}\n")
    sys.stdout.flush()


def cut_text(number: int, arguments: dict[str, Any]) -> None:
    """Answer with a text that has half of an emoji, a whole one, a backslash and a byte that is not UTF-8."""
    answer = b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"%b"}]}}\n'
    text = rb"a\ud83d \ud83d\ude00 \\ud800 " + b"\xe9"
    sys.stdout.buffer.write(answer % (number, text))
    sys.stdout.flush()


def endless(number: int, arguments: dict[str, Any]) -> None:
    """Write a line that does not end."""
    while True:
        sys.stdout.write("x" * (1 << 20))


def exits(number: int, arguments: dict[str, Any]) -> None:
    """End the process."""
    os._exit(7)


def crashes(number: int, arguments: dict[str, Any]) -> None:
    """End the process by a signal."""
    os.kill(os.getpid(), signal.SIGKILL)


def deaf(number: int, arguments: dict[str, Any]) -> None:
    """Read nothing any more."""
    os.close(0)
    time.sleep(60)


def asks(number: int, arguments: dict[str, Any]) -> None:
    """Ask the client for a completion, and answer with its refusal."""
    send({"id": "mine", "method": "sampling/createMessage", "params": {}})
    say(number, receive()["error"]["message"])


def refuses(number: int, arguments: dict[str, Any]) -> None:
    """Answer with an error of the protocol."""
    send({"id": number, "error": arguments})


def waits(number: int, arguments: dict[str, Any]) -> None:
    """Report progress, and wait to be told that the call is cancelled."""
    begin(number)
    told = receive()
    report(f"told {told['method']}, its own: {told['params']['requestId'] == number}")


def stuck(number: int, arguments: dict[str, Any]) -> None:
    """Read no more, and write nothing."""
    report("stuck")
    time.sleep(60)


def busy(number: int, arguments: dict[str, Any]) -> None:
    """Read nothing until there is a file, and answer."""
    report("busy")
    while not os.path.exists(arguments["until"]):
        time.sleep(0.01)
    say(number, "freed")


def forgets(number: int, arguments: dict[str, Any]) -> None:
    """Never answer this call."""
    report("forgotten")


def process(number: int, arguments: dict[str, Any]) -> None:
    """Answer with the number of the process."""
    say(number, str(os.getpid()))


TOOLS = {
    tool.__name__: tool
    for tool in (
        half,
        odd,
        odd_blob,
        odd_kind,
        odd_progress,
        odd_error,
        blames,
        prints,
        prints_json,
        starts_late,
        cut_text,
        endless,
        exits,
        crashes,
        deaf,
        asks,
        refuses,
        waits,
        stuck,
        busy,
        forgets,
        process,
    )
}


def serve() -> None:
    """Answer messages."""
    while True:
        message = receive()
        match message["method"]:
            case "initialize" if "odd" in sys.argv:
                send({"id": message["id"], "result": {"protocolVersion": 3}})
            case "initialize" if "refuse" in sys.argv:
                send({"id": message["id"], "error": {"code": -32602, "message": "the licence has expired"}})
            case "initialize" if "half" in sys.argv:
                half(0, {})
            case "initialize":
                answer = {
                    "protocolVersion": "2025-06-18",
                    "capabilities": {},
                    "serverInfo": {"name": "b", "version": "1"},
                }
                send({"id": message["id"], "result": answer})
            case "tools/list":
                send({"id": message["id"], "result": {"tools": [], "nextCursor": "again"}})
            case "tools/call":
                TOOLS[message["params"]["name"]](message["id"], message["params"].get("arguments", {}))
            case _ if "id" in message:
                send({"id": message["id"], "error": {"code": -32601, "message": "unknown method"}})


if __name__ == "__main__":
    behaviour = sys.argv[1] if len(sys.argv) > 1 else ""
    if behaviour == "text":
        sys.stdout.write("this program speaks no MCP\n")
        sys.stdout.flush()
    if behaviour in {"mute", "text"}:
        sys.stdin.read()
    if behaviour == "json":
        sys.stdout.write('{"level": 30, "msg": "starting"}\n')
    if behaviour == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        report(f"started {os.getpid()}")
        while True:
            time.sleep(60)
    serve()
