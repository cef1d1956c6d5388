"""Shows a job until it ends: a live progress bar on a terminal, otherwise a line every few seconds."""

import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tunewright.client import Client
from tunewright.display import clean, duration
from tunewright.wire import Event, Job

ASK_SECONDS = 1.0
LINE_SECONDS = 5.0
STYLES = {"warn": "yellow", "error": "red"}


def follow(client: Client, job_id: str, console: Console) -> Job:
    """Show the job's progress until it ends, and return the finished job. All values come from the API."""
    job, asked = client.get_job(job_id), time.monotonic()
    values: dict[str, float] = {}
    step = job.step
    board: Board = Bar(console) if console.is_terminal else Lines(console)
    with board:
        board.show(job, step, values)
        for update in client.watch(job_id):
            is_event = isinstance(update, Event)
            if not job.is_final and (is_event or time.monotonic() - asked > ASK_SECONDS):
                job, asked = client.get_job(job_id), time.monotonic()
            if isinstance(update, Event):
                board.tell(update)
            else:
                values |= update.values
                step = update.step  # The job's values may not have arrived yet.
            board.show(job, step, values)
    return client.get_job(job_id)


class Board(Protocol):
    def tell(self, event: Event) -> None: ...
    def show(self, job: Job, step: int, values: dict[str, float]) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Bar(Progress):
    def __init__(self, console: Console) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[measured]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            expand=True,
        )
        self.task = self.add_task("", total=None, measured="")

    def tell(self, event: Event) -> None:
        print_event(self.console, event)

    def show(self, job: Job, step: int, values: dict[str, float]) -> None:
        measured = "  ".join([*spoken(values), *time_left(job)])
        self.update(self.task, description=doing(job), completed=step, total=job.total_steps, measured=measured)


class Lines:
    def __init__(self, console: Console) -> None:
        self.console = console
        self.said_at = 0.0
        self.said_step = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def tell(self, event: Event) -> None:
        print_event(self.console, event)

    def show(self, job: Job, step: int, values: dict[str, float]) -> None:
        early = time.monotonic() - self.said_at < LINE_SECONDS and step != job.total_steps
        if not job.total_steps or not values or step == self.said_step or early:
            return
        self.said_at, self.said_step = time.monotonic(), step
        share = f"step {step}/{job.total_steps}  {step / job.total_steps:.0%}"
        self.console.print("  ".join([share, *spoken(values), *time_left(job)]), soft_wrap=True)


def print_event(console: Console, event: Event) -> None:
    at = event.created_at.astimezone().strftime("%H:%M:%S")
    console.print(f"{at}  {clean(event.message)}", style=STYLES.get(event.level), soft_wrap=True)


def doing(job: Job) -> str:
    return clean(f"{job.state}: {job.waiting_for}" if job.waiting_for else job.phase or job.state)


def spoken(values: dict[str, float]) -> list[str]:
    """Return the metrics to show, formatted."""
    words = {"loss": "loss {:.4f}", "tokens_per_second": "{:,.0f} tokens/s"}
    return [form.format(values[name]) for name, form in words.items() if name in values]


def time_left(job: Job) -> list[str]:
    if job.estimated_finish_at is None:
        return []
    return [f"{duration((job.estimated_finish_at - datetime.now(UTC)).total_seconds())} left"]
