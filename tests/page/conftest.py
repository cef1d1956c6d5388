"""Provides the page in a real Chromium over a real stack with the demonstration's data.

Without the extra `browser` or without Chromium, the tests are skipped with the reason; with CI=true they fail.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.db.session import transaction
from app.domain.caller import ADMIN
from app.domain.ids import new_id
from app.keys.service import KeyService
from app.projects.lookup import find_or_create_project
from tests.page.browser import Guard, Look, launch, open_context, why_missing
from tests.page.demo.pulse import Pulse
from tests.page.demo_data import Demo, copy_job, fill_project, remove_job
from tests.page.stack import PageStack, add_tiny_model, running_stack

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

FOLDER = Path(__file__).parent


class Unrunnable(pytest.Module):
    """Stands for a file of tests that cannot run here."""

    def collect(self) -> list[pytest.Item]:
        reason = why_missing()
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}; CI must run these tests", pytrace=False)
        pytest.skip(str(reason), allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return Unrunnable.from_parent(parent, path=module_path) if why_missing() else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(FOLDER):
            item.add_marker(pytest.mark.page)


@pytest.fixture(scope="session")
def stack() -> Iterator[PageStack]:
    """Run the stack of the whole run. Its jobs and workers are rows that stay as they are."""
    with tempfile.TemporaryDirectory(prefix="tunewright-page-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with running_stack(Path(folder)) as stack:
            yield stack


@pytest.fixture(scope="session")
def demo(stack: PageStack) -> Demo:
    """Fill the project `default`, once; return the ids by name. Tests change copies only: see `copied_job`."""
    return fill_project(stack.place)


@pytest.fixture(scope="session")
def tiny_model(stack: PageStack) -> str:
    """Add a model with which light workers can make previews; return its name."""
    add_tiny_model(stack)
    return "llama-tiny"


@pytest.fixture(scope="session")
def training_worker(stack: PageStack, tiny_model: str) -> str:
    """Start a worker that trains the tiny model on the CPU; return the model's name. Jobs need `device: cpu`, because
    the demonstration's GPU workers are preferred otherwise."""
    stack.start_worker("training")
    return tiny_model


@pytest.fixture
def copied_job(stack: PageStack, demo: Demo) -> Iterator[Callable[[str], str]]:
    """Return a function that copies a job of the demonstration, for the test to change; it returns the copy's id."""
    copies: list[str] = []

    def copy(name: str) -> str:
        copies.append(copy_job(stack.sessions, stack.place, demo.jobs[name]))
        return copies[-1]

    yield copy
    for id in copies:
        remove_job(stack.sessions, id)


@pytest.fixture
def pulse(stack: PageStack, demo: Demo, copied_job: Callable[[str], str]) -> Iterator[Pulse]:
    """Return the pulse of copies of the running jobs: a test lets them take steps with `take_step`."""
    names = ("support-replies-qwen3-4b", "support-replies-llama-3.1-8b")
    pulse = Pulse(stack.sessions, stack.place.redis_url, stack.project_id, {name: copied_job(name) for name in names})
    yield pulse
    pulse.close()


@pytest.fixture
def empty_project_key(stack: PageStack) -> str:
    """Create a project without any data; return a key of it with all scopes."""
    with transaction(stack.sessions) as session:
        project_id = find_or_create_project(session, f"empty-{new_id('proj')[-6:]}")
        return KeyService(session).create(project_id, "test", ADMIN)


@pytest.fixture(scope="session")
def chromium() -> Iterator["Browser"]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture
def look() -> Look:
    """Return how the page is shown. A test that parametrizes `look` with LOOKS gets all four."""
    return Look()


@pytest.fixture
def guard(stack: PageStack) -> Guard:
    return Guard(stack.place.url)


@pytest.fixture
def context(chromium: "Browser", stack: PageStack, look: Look, guard: Guard) -> Iterator["BrowserContext"]:
    """Open a browser context of the test's own, and fail the test for what its pages did wrong."""
    context = open_context(chromium, look, base_url=stack.place.url)
    guard.watch(context)
    yield context
    for page in context.pages:
        page.evaluate("() => 0")  # events that are under way arrive before its answer
    context.close()
    assert not guard.problems, "\n".join(guard.problems)


@pytest.fixture
def page(context: "BrowserContext") -> "Page":
    """Open a page that is not signed in."""
    return context.new_page()


@pytest.fixture
def signed_in(context: "BrowserContext", page: "Page", stack: PageStack, demo: Demo) -> "Page":
    """Open a page that is signed in to the project with the demonstration's data."""
    stack.sign_in(context)
    return page


@pytest.fixture
def signed_in_empty(context: "BrowserContext", page: "Page", stack: PageStack, empty_project_key: str) -> "Page":
    """Open a page that is signed in to a project without any data."""
    stack.sign_in(context, empty_project_key)
    return page
