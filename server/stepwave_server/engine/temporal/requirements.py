"""Requirements of servers and hosts in Temporal: the namespace, and the search attributes of runs."""

import logging
import re

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from stepwave_server.engine.temporal.visibility import SEARCH_ATTRIBUTES

__all__ = ["what_is_missing"]

logger = logging.getLogger(__name__)


async def what_is_missing(client: Client, address: str, options: str, *, attributes: bool) -> str:
    """Return what Temporal lacks, with the command that adds it; empty: nothing.

    Args:
        client: The client of Temporal.
        address: The address of Temporal.
        options: The options of the command for its connection.
        attributes: Whether the search attributes of runs are needed.

    Raises:
        RPCError: Temporal does not answer.
    """
    try:
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
        return await _missing_attributes(client, options) if attributes else ""
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
    command = f"temporal operator namespace create {options} --namespace {client.namespace}"
    return f'Temporal at {address} has no namespace "{client.namespace}"; add it: {command}'


async def _missing_attributes(client: Client, options: str) -> str:
    namespace = client.namespace
    try:
        found = await client.operator_service.list_search_attributes(ListSearchAttributesRequest(namespace=namespace))
    except RPCError as error:
        if error.status not in (RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.PERMISSION_DENIED):
            raise
        logger.warning("Temporal does not tell the search attributes of its namespace: %s", error)
        return ""
    types = {name: IndexedValueType.Name(kind) for name, kind in found.custom_attributes.items()}
    wanted = {name: _api_name(kind) for name, kind in SEARCH_ATTRIBUTES.items()}
    if differing := [name for name in wanted if types.get(name, wanted[name]) != wanted[name]]:
        listed = ", ".join(f"{name} (want {SEARCH_ATTRIBUTES[name]})" for name in differing)
        return f'in the namespace "{namespace}" of Temporal, search attributes have another type: {listed}'
    if missing := [name for name in wanted if name not in types]:
        added = "".join(f" --name {name} --type {SEARCH_ATTRIBUTES[name]}" for name in missing)
        command = f"temporal operator search-attribute create {options} --namespace {namespace}{added}"
        return f'the namespace "{namespace}" of Temporal lacks search attributes; add them: {command}'
    return ""


def _api_name(kind: str) -> str:
    """Return the name in the API of a type of search attributes: that of `KeywordList` ends with `KEYWORD_LIST`."""
    return "INDEXED_VALUE_TYPE_" + re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind).upper()
