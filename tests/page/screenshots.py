"""Takes the pictures of the web page into docs/screenshots: each view light and wide, and dark and narrow.

`python -m tests.page.screenshots [NAME…]` takes those of some views; `--all` takes each in light and dark, wide and
narrow. TUNEWRIGHT_SCREENSHOTS names another folder.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.page.browser import LOOKS, Guard, Look, launch, open_context, save_screenshot, why_missing
from tests.page.demo_data import BROKEN, SUPPORT, Demo, fill_project
from tests.page.stack import ROOT, PageStack, running_stack

if TYPE_CHECKING:
    from playwright.sync_api import Page

FOLDER = ROOT / "docs" / "screenshots"
DOCUMENTED = (Look("light", 1280), Look("dark", 390))
MAX_BYTES = 300_000
SETTLED = "() => !document.querySelector('.skeleton, .job-skeleton, [aria-busy=true]')"
"""Says that nothing is loading. An arrow function, since the page's policy forbids evaluating a text again."""
DRAWN_MS = 400


class Shot(NamedTuple):
    """Describes a picture."""

    name: str
    path: Callable[[Demo], str]
    heading: str
    """Is the text, or a part of it, of the heading that shows that the view is there."""
    prepare: Callable[["Page"], None] | None = None
    """Acts on the page before the picture."""
    signed_in: bool = True


def job(name: str) -> Callable[[Demo], str]:
    return lambda demo: f"/ui/jobs/{demo.jobs[name]}"


def dataset(name: str, query: str = "") -> Callable[[Demo], str]:
    return lambda demo: f"/ui/datasets/{demo.datasets[name]}{query}"


def at(path: str) -> Callable[[Demo], str]:
    return lambda demo: f"/ui/{path}"


COMPARED = ("support-replies-qwen3-4b", "support-replies-llama-3.1-8b", "support-replies-qwen3-1.7b",
            "meeting-notes-gemma-3-4b")  # fmt: skip
SHOTS: tuple[Shot, ...] = (
    Shot("sign-in", at(""), "Sign in", signed_in=False),
    Shot("jobs", at("jobs"), "Jobs"),
    Shot("job", job("support-replies-qwen3-4b"), "support-replies-qwen3-4b"),
    Shot("job-dpo", job("tone-preferences-qwen3-4b"), "tone-preferences-qwen3-4b"),
    Shot("job-failed", job("contract-clauses-llama-3.1-8b"), "contract-clauses-llama-3.1-8b"),
    Shot("compare", lambda demo: "/ui/compare?" + "&".join(f"job={demo.jobs[name]}" for name in COMPARED), "Compare"),
    Shot("new", at("new"), "New job"),
    Shot("datasets", at("datasets"), "Datasets"),
    Shot("dataset", dataset(SUPPORT), SUPPORT),
    Shot("dataset-problems", dataset(BROKEN, "?tab=problems"), BROKEN),
    Shot("dataset-preview", dataset(SUPPORT, "?tab=preview"), SUPPORT),
    Shot("dataset-overlaps", dataset(SUPPORT, "?tab=overlaps"), SUPPORT),
    Shot("adapters", at("adapters"), "Adapters"),
    Shot("models", at("models"), "Base models"),
    Shot("workers", at("workers"), "Workers"),
    Shot("webhooks", at("webhooks"), "Webhooks"),
    Shot("keys", at("keys"), "API keys"),
)


def show_view(page: "Page", shot: Shot, demo: Demo) -> None:
    """Open the view and wait until it has loaded."""
    page.goto(shot.path(demo))
    page.get_by_role("heading", name=shot.heading).first.wait_for()
    page.wait_for_function(SETTLED)
    page.evaluate("() => document.fonts.ready.then(() => null)")
    if shot.prepare:
        shot.prepare(page)


def take(page: "Page", shot: Shot, demo: Demo, name: str) -> Path:
    show_view(page, shot, demo)
    page.wait_for_timeout(DRAWN_MS)  # a chart draws in the next frame
    return save_screenshot(page, name)


@contextmanager
def demonstration() -> Iterator[tuple[PageStack, Demo]]:
    with tempfile.TemporaryDirectory(prefix="tunewright-page-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with running_stack(Path(folder)) as stack:
            yield stack, fill_project(stack.place)


def take_all(stack: PageStack, demo: Demo, shots: Sequence[Shot], looks: Sequence[Look]) -> list[str]:
    """Take the pictures; return what went wrong."""
    from playwright.sync_api import Error, sync_playwright

    problems: list[str] = []
    with sync_playwright() as playwright:
        browser = launch(playwright)
        for look in looks:
            for shot in shots:
                guard, name = Guard(stack.place.url), f"{shot.name}-{look}"
                context = open_context(browser, look, base_url=stack.place.url)
                guard.watch(context)
                if shot.signed_in:
                    stack.sign_in(context)
                try:
                    path = take(context.new_page(), shot, demo, name)
                    print(f"{path} {path.stat().st_size / 1e3:.0f} kB", flush=True)
                    if path.stat().st_size > MAX_BYTES:
                        problems.append(f"{name}: {path.stat().st_size:,} bytes")
                except Error as error:
                    problems.append(f"{name}: {error.message.splitlines()[0]}")
                context.close()
                problems += [f"{name}: {problem}" for problem in guard.problems]
        browser.close()
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.page.screenshots", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"views: {', '.join(shot.name for shot in SHOTS)}")
    parser.add_argument("--all", action="store_true", help="take each view in light and dark, wide and narrow")
    given = parser.parse_args()
    if reason := why_missing():
        sys.exit(reason)
    os.environ.setdefault("TUNEWRIGHT_SCREENSHOTS", str(FOLDER))
    shots = [shot for shot in SHOTS if not given.names or shot.name in given.names]
    with demonstration() as (stack, demo):
        problems = take_all(stack, demo, shots, LOOKS if given.all else DOCUMENTED)
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
