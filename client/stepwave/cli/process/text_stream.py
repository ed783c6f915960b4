"""Streams of texts that nothing has to wait for: a file or standard input is read, and standard output written."""

import asyncio
import codecs
import concurrent.futures
import os
import threading
from collections.abc import AsyncIterator

from stepwave.cli.exit_codes import CommandError, ExitCode

from .standard_streams import output_stream

__all__ = ["read_texts", "write_text"]

_STANDARD_INPUT = "-"
_CHUNK = 65_536


async def read_texts(name: str, *, stdin: int = 0, errors: str = "strict") -> AsyncIterator[str]:
    """Yield the texts of a file, or of standard input (`-`), as they come. A pipe need not have ended.

    A thread reads, and nothing waits for it: a read of a pipe cannot be interrupted.

    Args:
        name: The file, or `-`.
        stdin: The descriptor of standard input.
        errors: How to decode what is not UTF-8, as for `bytes.decode`.

    Raises:
        CommandError: The file cannot be read, or is not UTF-8.
    """
    try:
        descriptor = stdin if name == _STANDARD_INPUT else os.open(name, os.O_RDONLY)
    except OSError as error:
        raise _unreadable(name, error) from error
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes | OSError] = asyncio.Queue(1)
    reader = threading.Thread(target=_read, args=(descriptor, loop, chunks), name="stepwave-reader", daemon=True)
    reader.start()
    decoder = codecs.getincrementaldecoder("utf-8-sig")(errors)
    chunk: bytes | OSError = b"begun"
    while chunk:
        chunk = await chunks.get()
        if isinstance(chunk, OSError):
            raise _unreadable(name, chunk) from chunk
        try:
            yield decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            raise CommandError(f"{_subject(name)} is not UTF-8") from error


def _read(descriptor: int, loop: asyncio.AbstractEventLoop, chunks: "asyncio.Queue[bytes | OSError]") -> None:
    """Hand over what a descriptor gives, up to its end, which is an empty chunk."""
    chunk: bytes | OSError = b"begun"
    while chunk and not isinstance(chunk, OSError):
        try:
            chunk = os.read(descriptor, _CHUNK)
        except OSError as error:
            chunk = error
        putting = chunks.put(chunk)
        try:
            asyncio.run_coroutine_threadsafe(putting, loop).result()
        except (concurrent.futures.CancelledError, RuntimeError):  # nobody reads any more, or the loop is closed
            putting.close()
            return


async def write_text(text: str) -> None:
    """Write a text to standard output.

    A thread writes, and nothing waits for it after a cancellation: a write to a pipe cannot be interrupted. It leaves
    nothing in the buffer of the stream, whose lock the end of the process would wait for.

    Raises:
        BrokenPipeError: The reader has closed the pipe.
        CommandError: It cannot be written.
    """
    written: concurrent.futures.Future[None] = concurrent.futures.Future()
    written.set_running_or_notify_cancel()
    arguments = (output_stream().fileno(), text.encode(errors="backslashreplace"), written)
    threading.Thread(target=_write, args=arguments, name="stepwave-writer", daemon=True).start()
    try:
        await asyncio.wrap_future(written)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"cannot write to standard output: {error.strerror}", ExitCode.RUN_FAILED) from error


def _write(descriptor: int, data: bytes, written: "concurrent.futures.Future[None]") -> None:
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError as error:
        written.set_exception(error)
    else:
        written.set_result(None)


def _unreadable(name: str, error: OSError) -> CommandError:
    return CommandError(f"cannot read {_subject(name)}: {error.strerror}")


def _subject(name: str) -> str:
    return "standard input" if name == _STANDARD_INPUT else name
