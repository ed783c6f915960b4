"""Pages of lists: their sizes, and the opaque tokens that lead from one page to the next.

A token holds the position of its page, and a digest of its request. So it cannot be used with other filters.
"""

import base64
import json
from copy import deepcopy
from hashlib import blake2b
from typing import TypeAlias

from stepwave.v1 import orchestrator_pb2 as pb
from stepwave_server.wire.workflows.workflow import Parsed

__all__ = ["PagedRequest", "page_size", "parse_token", "to_token"]

PagedRequest: TypeAlias = (
    pb.ListActionsRequest
    | pb.ListRunLogsRequest
    | pb.ListRunsRequest
    | pb.ListStepResultsRequest
    | pb.ListWorkflowsRequest
    | pb.PlanWorkflowRequest
)

_DIGEST_BYTES = 8


def page_size(requested: int, default: int, most: int) -> int:
    """Return the number of items in a page; a `requested` size of 0 means the default."""
    return min(requested or default, most)


def to_token(request: PagedRequest, *values: int | str) -> str:
    """Return the token of the page of a request that begins at a position."""
    return base64.urlsafe_b64encode(json.dumps([_digest(request), *values]).encode()).decode()


def parse_token(request: PagedRequest, parsed: Parsed, *types: type) -> tuple[int | str, ...] | None:
    """Return the position in a request's token, whose values have these types; `None` for the first page."""
    if not request.page_token:
        return None
    try:
        digest, *values = json.loads(base64.urlsafe_b64decode(request.page_token.encode()))
    except (ValueError, TypeError, RecursionError):
        digest, values = "", []
    if tuple(map(type, values)) != types or any(isinstance(value, int) and value < 0 for value in values):
        parsed.blame("page_token", "must be empty or a page token of this server")
    elif digest != _digest(request):
        parsed.blame("page_token", "belongs to a request with other fields: only `page_size` may change between pages")
    else:
        return tuple(values)
    return None


def _digest(request: PagedRequest) -> str:
    """Return a digest of the fields of a request that must be the same for all of its pages."""
    fields = deepcopy(request)
    fields.ClearField("page_token")
    fields.ClearField("page_size")
    return blake2b(fields.SerializeToString(deterministic=True), digest_size=_DIGEST_BYTES).hexdigest()
