"""How the SDK reaches a server: addresses, and the settings of a channel."""

import ipaddress
import os

__all__ = ["DEFAULT_ADDRESS", "channel_options", "check_plain_text", "is_local", "resolve_address"]

DEFAULT_ADDRESS = "127.0.0.1:50051"

_MAX_RECEIVED_BYTES = 16 * 1024 * 1024  # no message of a server passes 3 MiB; gRPC's own limit is 4


def resolve_address(address: str | None) -> str:
    """Return the address of the server: what was given, else `STEPWAVE_SERVER`, else `127.0.0.1:50051`.

    Raises:
        ValueError: It names no port.
    """
    chosen = address or os.environ.get("STEPWAVE_SERVER") or DEFAULT_ADDRESS
    if not _is_socket(chosen) and not chosen.rpartition(":")[2].isdigit():
        raise ValueError(f"an address is HOST:PORT or unix:PATH, got {chosen!r}")
    return chosen


def check_plain_text(address: str, *, insecure: bool) -> None:
    """Refuse to send plain text beyond this machine, unless told to.

    Raises:
        ValueError: The address is not this machine's, and `insecure` was not said.
    """
    if not insecure and not is_local(address):
        raise ValueError(
            f"{address} is another machine, and the connection is not encrypted: say insecure=True to allow it"
        )


def is_local(address: str) -> bool:
    """Tell whether an address is a socket of this machine or its loopback interface."""
    if _is_socket(address):
        return True
    host = address.rpartition(":")[0].rpartition("/")[2].removeprefix("ipv4:").removeprefix("ipv6:").strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def _is_socket(address: str) -> bool:
    return address.startswith(("unix:", "unix-abstract:"))


def channel_options(address: str) -> list[tuple[str, int]]:
    """Return the settings of a channel to an address.

    gRPC's own retries stay without a policy: the client tries again by itself, with one patience for calls and streams,
    and within the time that the caller has.
    """
    return [
        ("grpc.max_receive_message_length", _MAX_RECEIVED_BYTES),
        ("grpc.max_send_message_length", -1),  # the server's limit counts, and its error names it
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),
        # A server that comes back is found soon; gRPC's own pauses grow from one second to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 5_000),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # Clients of one process share nothing, so that closing one says nothing to another.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0 if is_local(address) else 1),
    ]
