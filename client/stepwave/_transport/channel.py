"""How the SDK reaches a server: addresses, the options of a channel, and the metadata of calls."""

import ipaddress
import os
import re
import sys

__all__ = [
    "DEFAULT_ADDRESS",
    "channel_options",
    "is_local",
    "resolve_address",
    "trace_metadata",
]

DEFAULT_ADDRESS = "127.0.0.1:50051"

_URL = re.compile(r"(?P<scheme>https?|grpcs?|tcp)://(?P<host>[^/]*)", re.IGNORECASE)
_PORT = DEFAULT_ADDRESS.rpartition(":")[2]
_MAX_RECEIVED_BYTES = 16 * 1024 * 1024  # a server sends at most 3 MiB; gRPC's default limit is 4 MiB


def resolve_address(address: str | None) -> str:
    """Return the given address, else `$STEPWAVE_SERVER`, else `127.0.0.1:50051`.

    Raises:
        ValueError: The address is a URL, or has no port.
    """
    chosen = address or os.environ.get("STEPWAVE_SERVER") or DEFAULT_ADDRESS
    if url := _URL.match(chosen):
        host = url["host"] or "HOST"
        right = host if host.rpartition(":")[2].isdigit() else f"{host}:{_PORT}"
        raise ValueError(f"an address is HOST:PORT or unix:PATH, without {url['scheme']}://; write {right!r}")
    if not _is_socket(chosen) and not chosen.rpartition(":")[2].isdigit():
        raise ValueError(f"an address is HOST:PORT or unix:PATH, got {chosen!r}")
    return chosen


def is_local(address: str) -> bool:
    """Return whether an address is a socket of this machine or its loopback interface.

    gRPC takes several addresses of one service, such as `ipv4:127.0.0.1:50051,127.0.0.1:50052`. All of them count.
    """
    if _is_socket(address):
        return True
    return all(map(_is_loopback, address.removeprefix("ipv4:").removeprefix("ipv6:").split(",")))


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].rpartition("/")[2].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def _is_socket(address: str) -> bool:
    return address.startswith(("unix:", "unix-abstract:"))


def channel_options(address: str) -> list[tuple[str, int]]:
    """Return the options of a channel to an address.

    gRPC's own retries are not used: the client retries calls and streams itself, within the caller's time limits.
    """
    return [
        ("grpc.max_receive_message_length", _MAX_RECEIVED_BYTES),
        ("grpc.max_send_message_length", -1),  # the server has its own limit, which its error names
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),
        # To find a restarted server soon; gRPC's default pauses grow from one second to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 5_000),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # Clients of one process share no connection, so closing one does not affect another.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0 if is_local(address) else 1),
    ]


def trace_metadata() -> tuple[tuple[str, str], ...]:
    """Return `traceparent` and `tracestate` of the caller's current span; empty without one.

    W3C trace context: https://www.w3.org/TR/trace-context/. OpenTelemetry is optional and is not imported here: a
    caller with a span has imported it.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return ()
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return ()
    parent = ("traceparent", f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}")
    state = span.trace_state.to_header()
    return (parent, ("tracestate", state)) if state else (parent,)
