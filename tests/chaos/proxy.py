"""Proxies a server's Unix socket and injects faults: cuts connections, delays data, and drops the response to a
commit."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

COMMIT = b"COMMIT"
CHUNK_BYTES = 2**16


class Link:
    """Represents one connection through the proxy. `pid` is the client program's."""

    def __init__(self, pid: int, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self.pid, self.near, self.far = pid, near, far
        self.loses_next_commit = False
        self.loses_answer = False

    def cut(self) -> None:
        for end in (self.near, self.far):
            end.transport.abort()


class FaultProxy:
    """Listens on `path` in a separate thread. Peer authentication still works, since both ends have the same user."""

    def __init__(self, path: Path, server: Path) -> None:
        self.path, self.server = path, server
        self.delay_seconds = 0.0
        self.num_answers_lost = 0
        self.links: set[Link] = set()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._serve, name=f"proxy-{path.name}", daemon=True)
        self._listening = threading.Event()

    def start(self) -> None:
        self.thread.start()
        assert self._listening.wait(10)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    def cut(self, pid: int | None = None) -> int:
        """Cut the connections of one program, or all of them; return their number."""
        return self._in_loop(lambda: self._each(pid, Link.cut))

    def lose_next_commit(self, pid: int) -> int:
        """Execute the program's next COMMIT on each connection, but drop the response and the connection."""

        def mark(link: Link) -> None:
            link.loses_next_commit = True

        return self._in_loop(lambda: self._each(pid, mark))

    def _each(self, pid: int | None, do: Callable[[Link], None]) -> int:
        found = [link for link in self.links if pid in (None, link.pid)]
        for link in found:
            do(link)
        return len(found)

    def _in_loop(self, do: Callable[[], int]) -> int:
        async def done() -> int:
            return do()

        return asyncio.run_coroutine_threadsafe(done(), self.loop).result(10)

    def _serve(self) -> None:
        self.path.unlink(missing_ok=True)
        server = self.loop.run_until_complete(asyncio.start_unix_server(self._accept, str(self.path), backlog=512))
        self._listening.set()
        self.loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    async def _accept(self, near_in: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        peer = near.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid = struct.unpack("3i", peer)[0]
        try:
            far_in, far = await asyncio.open_unix_connection(str(self.server))
        except OSError:
            near.transport.abort()
            return
        link = Link(pid, near, far)
        self.links.add(link)
        try:
            await asyncio.gather(self._there(near_in, link), self._back(far_in, link))
        finally:
            self.links.discard(link)
            link.cut()

    async def _there(self, source: asyncio.StreamReader, link: Link) -> None:
        while data := await _read(source):
            if link.loses_next_commit and COMMIT in data:
                link.loses_answer = True
            await self._pass_on(data, link.far)
        link.cut()

    async def _back(self, source: asyncio.StreamReader, link: Link) -> None:
        while data := await _read(source):
            if link.loses_answer:
                self.num_answers_lost += 1
                break
            await self._pass_on(data, link.near)
        link.cut()

    async def _pass_on(self, data: bytes, target: asyncio.StreamWriter) -> None:
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        target.write(data)
        try:
            await target.drain()
        except (ConnectionError, OSError):
            return  # The connection was cut. The other direction ends too.


async def _read(source: asyncio.StreamReader) -> bytes:
    try:
        return await source.read(CHUNK_BYTES)
    except OSError:
        return b""
