"""Detects that the server is about to stop. uvicorn notifies an application only after every request has been answered,
and a waiting request would delay that."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def on_stop_signal(callback: Callable[[], None]) -> Iterator[None]:
    """Call `callback` on the running loop as soon as SIGTERM or SIGINT arrives, then run the signal's previous handler.
    Does nothing outside the main thread, where signals cannot be handled."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def chained(number: int, frame: FrameType | None) -> Any:
        loop.call_soon_threadsafe(callback)
        previous = before[signal.Signals(number)]
        if callable(previous):
            return previous(number, frame)
        return None

    for number, handler in before.items():
        if callable(handler):
            signal.signal(number, chained)
    try:
        yield
    finally:
        for number, handler in before.items():
            if callable(handler) and signal.getsignal(number) is chained:
                signal.signal(number, handler)
