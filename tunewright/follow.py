"""Shows the progress of a job until it ends: a live progress bar on a terminal, or a line every few seconds."""

import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tunewright.client import Client
from tunewright.display import format_duration, sanitize_text
from tunewright.wire import Event, Job

REFRESH_SECONDS = 1.0
LINE_SECONDS = 5.0
STYLES = {"warn": "yellow", "error": "red"}


def follow(client: Client, job_id: str, console: Console) -> Job:
    """Show the job's progress until it ends, and return the finished job."""
    job, refreshed_at = client.get_job(job_id), time.monotonic()
    values: dict[str, float] = {}
    step = job.step
    display: ProgressDisplay = ProgressBar(console) if console.is_terminal else ProgressLines(console)
    with display:
        display.show_progress(job, step, values)
        for update in client.watch(job_id):
            is_event = isinstance(update, Event)
            if not job.is_final and (is_event or time.monotonic() - refreshed_at > REFRESH_SECONDS):
                job, refreshed_at = client.get_job(job_id), time.monotonic()
            if isinstance(update, Event):
                display.show_event(update)
            else:
                values |= update.values
                step = update.step  # The values of the job may be older.
            display.show_progress(job, step, values)
    return client.get_job(job_id)


class ProgressDisplay(Protocol):
    def show_event(self, event: Event) -> None: ...
    def show_progress(self, job: Job, step: int, values: dict[str, float]) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ProgressBar(Progress):
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

    def show_event(self, event: Event) -> None:
        print_event(self.console, event)

    def show_progress(self, job: Job, step: int, values: dict[str, float]) -> None:
        measured = "  ".join([*format_metrics(values), *format_time_left(job)])
        activity = describe_activity(job)
        self.update(self.task, description=activity, completed=step, total=job.total_steps, measured=measured)


class ProgressLines:
    def __init__(self, console: Console) -> None:
        self.console = console
        self.printed_at = 0.0
        self.printed_step = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show_event(self, event: Event) -> None:
        print_event(self.console, event)

    def show_progress(self, job: Job, step: int, values: dict[str, float]) -> None:
        early = time.monotonic() - self.printed_at < LINE_SECONDS and step != job.total_steps
        if not job.total_steps or not values or step == self.printed_step or early:
            return
        self.printed_at, self.printed_step = time.monotonic(), step
        share = f"step {step}/{job.total_steps}  {step / job.total_steps:.0%}"
        self.console.print("  ".join([share, *format_metrics(values), *format_time_left(job)]), soft_wrap=True)


def print_event(console: Console, event: Event) -> None:
    at = event.created_at.astimezone().strftime("%H:%M:%S")
    console.print(f"{at}  {sanitize_text(event.message)}", style=STYLES.get(event.level), soft_wrap=True)


def describe_activity(job: Job) -> str:
    return sanitize_text(f"{job.state}: {job.waiting_for}" if job.waiting_for else job.phase or job.state)


def format_metrics(values: dict[str, float]) -> list[str]:
    """Format the loss and the speed, if they were measured."""
    formats = {"loss": "loss {:.4f}", "tokens_per_second": "{:,.0f} tokens/s"}
    return [text.format(values[name]) for name, text in formats.items() if name in values]


def format_time_left(job: Job) -> list[str]:
    if job.estimated_finish_at is None:
        return []
    return [f"{format_duration((job.estimated_finish_at - datetime.now(UTC)).total_seconds())} left"]
