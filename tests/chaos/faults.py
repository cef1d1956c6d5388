"""Injects the faults: into a process, a connection, or a shared server or disk."""

import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import psutil
from redis.exceptions import RedisError

from tests.chaos.job_views import Work
from tests.chaos.stack import LEASE_SECONDS, Stack

RECOVERY_SECONDS = 2.0
SLOW_SECONDS = 0.05
"""Delays each chunk of data between a program and PostgreSQL."""

Later = Callable[[float, Callable[[], None]], None]
"""Calls a function after a number of seconds."""


class Faults:
    def __init__(self, stack: Stack, later: Later) -> None:
        self.stack, self.later = stack, later
        self.stalled: dict[str, list[psutil.Process]] = {}
        """Holds the stopped processes by the worker's name."""
        self.delays: list[tuple[float, float]] = []
        """Lists the times in which lost jobs cannot be expected to restart: PostgreSQL is unreachable and recovery
        waits for it, or the disk is full and workers claim nothing."""

    # Faults of one job's worker

    def host_killed(self, work: Work) -> None:
        """Kill the whole process tree at once, as if the machine had died."""
        send(work.tree(), signal.SIGKILL)

    def worker_killed(self, work: Work) -> None:
        send([work.process], signal.SIGKILL)

    def child_killed(self, work: Work) -> None:
        send([work.child], signal.SIGKILL)

    def host_stalled(self, work: Work) -> None:
        self.stall(work.worker, work.tree())

    def worker_stalled(self, work: Work) -> None:
        """Stop the worker; its training process continues."""
        self.stall(work.worker, [work.process])

    host_stalled_briefly = host_stalled

    def drained(self, work: Work) -> None:
        send([work.process], signal.SIGTERM)

    def connections_cut(self, work: Work) -> None:
        self.stack.postgres_proxy.cut(work.process.pid)
        self.stack.redis_proxy.cut(work.process.pid)

    def commit_answer_lost(self, work: Work) -> None:
        self.stack.postgres_proxy.lose_next_commit(work.process.pid)

    def stall(self, worker: str, processes: list[psutil.Process]) -> None:
        """Stop the processes until `wake` is called."""
        self.stalled[worker] = processes
        send(processes, signal.SIGSTOP)

    def wake(self, worker: str) -> None:
        send(self.stalled.pop(worker, []), signal.SIGCONT)

    def wake_all(self) -> None:
        for worker in list(self.stalled):
            self.wake(worker)

    # Faults of all programs

    def postgres_stopped(self, seconds: float) -> None:
        """Stop PostgreSQL as `pg_ctl stop -m immediate` does."""
        # Recovery waits a full lease after it reconnects, so that healthy workers renew first.
        self._note_delay(seconds + RECOVERY_SECONDS + LEASE_SECONDS)
        self.stack.stop_server(self.stack.postgres, signal.SIGQUIT)
        self.later(seconds, lambda: self.stack.start_server(self.stack.postgres))

    def _note_delay(self, seconds: float) -> None:
        self.delays.append((time.time(), time.time() + seconds))

    def postgres_cut(self, seconds: float) -> None:
        self.stack.postgres_proxy.cut()

    def postgres_slow(self, seconds: float) -> None:
        self.stack.postgres_proxy.delay_seconds = SLOW_SECONDS
        self.later(seconds, lambda: setattr(self.stack.postgres_proxy, "delay_seconds", 0.0))

    def redis_flushed(self, seconds: float) -> None:
        self._run_on_redis("FLUSHALL")

    def redis_restarted(self, seconds: float) -> None:
        self.stack.stop_server(self.stack.redis, signal.SIGKILL)
        self.later(seconds, lambda: self.stack.start_server(self.stack.redis))

    def redis_paused(self, seconds: float) -> None:
        self._run_on_redis("CLIENT", "PAUSE", str(int(seconds * 1000)), "ALL")

    def redis_clients_killed(self, seconds: float) -> None:
        self._run_on_redis("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def redis_cut(self, seconds: float) -> None:
        self.stack.redis_proxy.cut()

    def dispatcher_killed(self, seconds: float) -> None:
        self._kill_program("dispatcher-1")

    def api_killed(self, seconds: float) -> None:
        self._kill_program("api")

    def disk_filled(self, seconds: float) -> None:
        """Fill the disk that attempts work on. A worker without disk space claims nothing for the time of a lease."""
        self._note_delay(seconds + LEASE_SECONDS)
        ballast = self.stack.data / "work/.ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(bytes(2**24)):
                continue
        self.later(seconds, lambda: ballast.unlink(missing_ok=True))

    def _kill_program(self, name: str) -> None:
        process = self.stack.programs[name].process
        if process and process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)

    def _run_on_redis(self, *command: str) -> None:
        with suppress(RedisError), self.stack.connect_to_redis() as client:
            client.execute_command(*command)


def send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
