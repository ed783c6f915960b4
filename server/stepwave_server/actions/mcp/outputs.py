"""Answers of tools to outputs of steps."""

import base64
import binascii
import json
from collections.abc import Iterable

from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    TextContent,
    Tool,
)

from stepwave._values.payload import Blob

__all__ = ["error_text", "output_of", "tool_output"]


def output_of(result: CallToolResult) -> object:
    """Return the output for an answer of a tool.

    It is the structured content if there is one; if other blocks than text are beside it, an object with
    `structuredContent` and `content`, the list of blocks. Otherwise it is the text, with a newline between its blocks;
    one image, audio or binary resource alone is a `Blob`; nothing is `None`; all else is the list of blocks.

    Raises:
        ValueError: A block has data that is not Base64.
    """
    structured, blocks = result.structured_content, result.content
    is_text = all(isinstance(block, TextContent) for block in blocks)
    if structured is not None:
        return structured if is_text else {"structuredContent": structured, "content": _written(blocks)}
    if not blocks:
        return None
    if len(blocks) == 1 and (blob := _blob(blocks[0])) is not None:
        return blob
    return _text_of(result) if is_text else _written(blocks)


def _written(blocks: Iterable[ContentBlock]) -> list[object]:
    """Return blocks as the protocol writes them."""
    return [block.model_dump(by_alias=True, mode="json", exclude_none=True) for block in blocks]


def _text_of(result: CallToolResult) -> str:
    """Return the blocks of text, with newlines between them."""
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


def error_text(result: CallToolResult) -> str:
    """Return what a tool says of its error: its text, or else its structured content as JSON."""
    content = result.structured_content
    return _text_of(result) or (json.dumps(content, ensure_ascii=False) if content else "")


def tool_output(tool: Tool) -> dict[str, object]:
    """Return what `mcp.list` says of a tool."""
    return {"name": tool.name, "description": tool.description or "", "input_schema": tool.input_schema}


def _blob(block: ContentBlock) -> Blob | None:
    """Return a block as a blob; `None`: it is none.

    Raises:
        ValueError: Its data are not Base64.
    """
    match block:
        case ImageContent(data=data, mime_type=kind) | AudioContent(data=data, mime_type=kind):
            return Blob(_bytes(data), kind)
        case EmbeddedResource(resource=BlobResourceContents(blob=data, mime_type=kind)):
            return Blob(_bytes(data), kind or "application/octet-stream")
    return None


def _bytes(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a block of it has data that are not Base64") from None
