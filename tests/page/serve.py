"""Serves this checkout's page over demonstration data, until Ctrl-C: `python -m tests.page.serve --port 8400`.

The running jobs go on, a step a second. The API restarts when a file below `app/page` changes.
"""

import argparse
import signal
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from tests.page.demo.pulse import Pulse, beating
from tests.page.demo_data import fill_project
from tests.page.stack import ROOT, PageStack, add_tiny_model, running_stack

WATCHED = ROOT / "app" / "page"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.page.serve", description=__doc__)
    parser.add_argument("--port", type=int, default=8400, help="port to listen on; 0 selects a free one")
    parser.add_argument("--still", action="store_true", help="keep the running jobs at their steps")
    parser.add_argument("--train", action="store_true", help="start a training worker on the CPU")
    parser.add_argument("--empty", action="store_true", help="serve a project without any data")
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it otherwise
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="tunewright-page-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with suppress(KeyboardInterrupt), running_stack(Path(folder), given.port, trains=given.train) as stack:
            serve(stack, given)


def serve(stack: PageStack, given: Any) -> None:
    say(f"\n  {stack.place.url}\n  key: {stack.place.key}\n  data: {stack.folder}\n")
    with ExitStack() as ends:
        if not given.empty:
            demo = fill_project(stack.place)
            say(f"The demonstration's {len(demo.jobs)} jobs are ready. Ctrl-C stops the server and removes its data.")
            pulse = Pulse(stack.sessions, stack.place.redis_url, stack.project_id, demo.jobs)
            ends.enter_context(beating(pulse, None if given.still else 1.0))
        add_tiny_model(stack)
        say("The model llama-tiny can be previewed and, with --train, trained (resources.device: cpu).")
        watch(stack)


def watch(stack: PageStack) -> None:
    """Restart the API after each change, until Ctrl-C."""
    seen = newest_change()
    while True:
        time.sleep(0.5)
        if (now := newest_change()) != seen:
            seen = now
            try:
                stack.restart_api()
                say("Restarted the API after a change below app/page.")
            except RuntimeError as error:
                say(f"{error}\nWaiting for another change.")


def newest_change() -> tuple[float, int]:
    """Return the time of the newest change and the number of files."""
    times = []
    for path in WATCHED.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file() and "__pycache__" not in path.parts:
                times.append(path.stat().st_mtime)
    return max(times, default=0.0), len(times)


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
