"""`stepwave health`: ask a server whether it takes new runs, by gRPC's health protocol."""

from typing import Annotated

import grpc
import typer

from stepwave._transport.security import Connection, open_channel
from stepwave.cli.connect import Target
from stepwave.cli.display.output import print_line
from stepwave.cli.exit_codes import CommandError, ExitCode
from stepwave.cli.options import InsecureOption, ServerOption, parse_seconds

__all__ = ["health"]

_NO_ANSWER = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def health(
    server: ServerOption = None,
    insecure: InsecureOption = False,
    timeout: Annotated[str, typer.Option(metavar="DURATION", help="How long to wait for the answer.")] = "3s",
) -> None:
    """Ask a server whether it takes new runs, as load balancers and containers do.

    The exit code is 0 if it does. It is 1 if it does not: it stops, or its journal or Temporal fails. It is 3 if there
    is no answer. Programs can ask the same by gRPC's health protocol (grpc.health.v1), which needs no Stepwave.
    """
    connection = Target(server, insecure).connection()
    seconds = parse_seconds("--timeout", timeout)
    if not _is_serving(connection, seconds):
        raise CommandError(f"the server at {connection.address} takes no new runs", ExitCode.RUN_FAILED)
    print_line("serving")


def _is_serving(connection: Connection, seconds: float | None) -> bool:
    """Ask a server once.

    Raises:
        CommandError: It does not answer, or knows no health checks; or the `server` extra is not installed.
    """
    try:  # not the whole server: containers run this command every few seconds
        from grpc_health.v1 import health_pb2, health_pb2_grpc
    except ModuleNotFoundError as error:
        raise CommandError("checking a server needs the server extra: pip install 'stepwave[server]'") from error
    with open_channel(connection.address, connection.security) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=seconds)
        except grpc.RpcError as error:
            code = ExitCode.NO_SERVER if error.code() in _NO_ANSWER else ExitCode.RUN_FAILED
            raise CommandError(f"no answer from {connection.address}: {error.details()}", code) from error
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
