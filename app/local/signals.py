"""Receives signals as results of a wait, not as interruptions at any line."""

import signal

from app.local.errors import StopRequested

STOP = {signal.SIGINT, signal.SIGTERM}


def block_signals() -> None:
    """Block the signals. From here on only `Waits` receives them; children are started with none blocked."""
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        STOP.add(signal.SIGHUP)
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP | {signal.SIGCHLD})


class Waits:
    """Is the supervisor's only way to sleep."""

    def __init__(self) -> None:
        self.stopping = False
        self.hurried = False

    def sleep(self, seconds: float) -> None:
        """Sleep, and return early when a child ends. The first signal to stop raises StopRequested, a further one
        hurries."""
        received = signal.sigtimedwait(STOP | {signal.SIGCHLD}, seconds)
        if received is None or received.si_signo == signal.SIGCHLD:
            return
        if self.stopping:
            self.hurried = True
            return
        self.stopping = True
        raise StopRequested

    def limit_wait(self, seconds: float) -> float:
        return min(seconds, 3.0) if self.hurried else seconds
