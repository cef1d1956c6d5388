"""Server-sent events, as the HTML standard defines them."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Message(NamedTuple):
    event: str
    id: str
    data: str


def read_messages(chunks: Iterable[bytes]) -> Iterator[Message]:
    """Those that arrived whole: the rest of a connection that broke is no message."""
    event, id = "message", ""
    data: list[str] = []
    for line in read_lines(chunks):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield Message(event, id, "\n".join(data))
            event, data = "message", []
        elif name == "event":
            event = value
        elif name == "id":
            id = value
        elif name == "data":
            data.append(value)


def read_lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Unlike httpx's iter_lines, which also breaks a line at U+2028 and its kin, and JSON may hold those."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r").decode()
