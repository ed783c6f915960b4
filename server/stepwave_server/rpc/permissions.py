"""The authentication and authorization of calls, before their methods run."""

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import Message
from grpc.aio import ServicerContext

from stepwave_server.access.audit import AuditLog
from stepwave_server.access.authenticator import Authenticator
from stepwave_server.access.roles import ALL_NAMESPACES, ANYONE, CALL, REQUIRED, Call, Caller, NotAuthenticated, Role
from stepwave_server.access.start_rates import StartRates
from stepwave_server.core.info import DEFAULT_NAMESPACE, RunKey
from stepwave_server.engine.errors import RunNotFound
from stepwave_server.rpc.open_streams import OpenStreams, Refused
from stepwave_server.rpc.statuses import CallRefused, PermissionDenied, TooManyStarts, Unauthenticated

__all__ = ["Permissions"]

Context: TypeAlias = ServicerContext[Any, Any]

STARTS = frozenset({"ExecuteWorkflow", "StartRun"})
"""The calls whose run may be new. Every other call with a run id is about a run that exists."""

AUDITED = frozenset(name for name, role in REQUIRED.items() if role > Role.VIEWER)
"""The calls that change something."""

_NAMES = ("x509_subject_alternative_name", "x509_common_name")


class Permissions:
    """Decides which calls are served.

    Args:
        authenticator: Knows the callers; `None`: everybody may do everything.
        audit: Records calls that change something, and refused ones.
    """

    def __init__(self, authenticator: Authenticator | None = None, audit: AuditLog | None = None) -> None:
        self._authenticator = authenticator
        rate_of = _no_rate if authenticator is None else authenticator.starts_per_second_of
        self._starts = StartRates(rate_of, time.monotonic)
        self._audit = audit or AuditLog(None)
        self._streams = OpenStreams()
        if authenticator is not None:
            authenticator.listeners.append(self._streams.review)

    async def authenticate(self, context: Context) -> Caller:
        """Return who makes a call.

        Raises:
            Unauthenticated: The credentials are missing or not valid.
        """
        if self._authenticator is None:
            return ANYONE
        try:
            return await self._authenticator.authenticate(_authorization(context), partial(certificate_names, context))
        except NotAuthenticated as error:
            raise Unauthenticated(str(error)) from None

    def check(self, caller: Caller, method: str, request: Message, context: Context) -> None:
        """Check that a caller may make a call, and note who makes it for the rest of its task.

        A run in a namespace where the caller has no role does not exist for them.

        Raises:
            RunNotFound: The call is about a run in such a namespace.
            PermissionDenied: The caller has no role in the namespace, or one that is too low, or no role in all
                namespaces where the answer is about all.
            TooManyStarts: The namespace has started as many runs as it may.
        """
        if self._authenticator is None:
            return
        namespace = _namespace_of(request)
        refused = _refused(caller, method, request)
        if refused is not None:
            raise refused
        if method in STARTS and (delay := self._starts.take(namespace)):
            raise TooManyStarts(namespace, delay)
        note = partial(self._note_start, method, caller, namespace, context)
        CALL.set(Call(caller=caller, namespaces=self._authenticator.access.namespaces, note_start=note))

    def until_refused(self, method: str, request: Message, context: Context) -> AbstractAsyncContextManager[None]:
        """End a stream while inside, when the rules have changed and its caller may no longer have it.

        Raises:
            Unauthenticated, PermissionDenied, RunNotFound: The stream was ended, with the refusal of a new one.
        """
        if self._authenticator is None:
            return nullcontext()
        return self._streams.until_refused(partial(self._refused_now, method, request, context))

    async def _refused_now(self, method: str, request: Message, context: Context) -> Refused | None:
        try:
            return _refused(await self.authenticate(context), method, request)
        except Unauthenticated as error:
            return error

    def _note_start(self, method: str, caller: Caller, namespace: str, context: Context, run_id: str) -> None:
        self._audit.write(
            call=method, caller=caller, peer=context.peer(), namespace=namespace, run_id=run_id, outcome="STARTED"
        )

    def record(
        self, method: str, caller: Caller | None, request: Message | None, context: Context, outcome: str
    ) -> None:
        """Record a call in the audit log, if it changes something or was refused; `None`: not known."""
        denied = outcome in {"UNAUTHENTICATED", "PERMISSION_DENIED"}
        if method not in AUDITED and not denied:
            return
        if method in STARTS and outcome in {
            "OK",
            "CANCELLED",
        }:  # it has the line of the start
            return
        named = {} if request is None else {name: _text(request, name) for name in ("namespace", "run_id", "step_id")}
        self._audit.write(call=method, caller=caller, peer=context.peer(), outcome=outcome, **named)

    def guarded(self, handle: Callable[[Any, Context], Any]) -> Callable[[Any, Context], Awaitable[None]]:
        """Return a streaming handler that serves only callers who are known."""

        async def serve(requests: Any, context: Context) -> None:
            try:
                await self.authenticate(context)
            except CallRefused as error:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
            async for response in handle(requests, context):
                await context.write(response)

        return serve


def _refused(caller: Caller, method: str, request: Message) -> Refused | None:
    """Return why a caller may not make a call; `None`: they may."""
    namespace = _namespace_of(request)
    run_id = "" if method in STARTS else _text(request, "run_id")
    role = caller.role_in(namespace)
    if role is None and run_id:
        return RunNotFound(RunKey(namespace, run_id))
    needed = Role.RUNNER if getattr(request, "attach", False) else REQUIRED[method]
    if role is None or role < needed:
        return PermissionDenied(caller.name, namespace, method, needed.name.lower())
    if getattr(request, "stats", False) and caller.roles.get(ALL_NAMESPACES) is not Role.ADMIN:
        return PermissionDenied(caller.name, ALL_NAMESPACES, "GetServerInfo with stats", Role.ADMIN.name.lower())
    return None


def _namespace_of(request: Message) -> str:
    return _text(request, "namespace") or DEFAULT_NAMESPACE


def _no_rate(namespace: str) -> None:
    """Return `None`: nobody bounds starts."""


def _authorization(context: Context) -> str | None:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            return value if isinstance(value, str) else value.decode("latin-1")
    return None


def certificate_names(context: Context) -> list[str]:
    """Return the names of the client's certificate that TLS has confirmed; empty: there is none."""
    found: Mapping[str, Any] = context.auth_context()
    for key in _NAMES:
        if names := found.get(key):
            return [name.decode("utf-8", "replace") for name in names]
    return []


def _text(request: Message, name: str) -> str:
    value = getattr(request, name, "")
    return value if isinstance(value, str) else ""
