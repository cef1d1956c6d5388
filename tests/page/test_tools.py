"""Tests the tools themselves: that the guard, the checks and the demonstration find and show what they should."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from app.domain.jobs.state import JobState
from tests.page.browser import (
    LOOKS,
    Guard,
    Look,
    check_accessibility,
    check_reflow,
    focused,
    press,
    save_screenshot,
    tab_to,
)
from tests.page.demo.pulse import Pulse
from tests.page.demo.stories import STORIES
from tests.page.demo_data import Demo
from tests.page.stack import PageStack

TINY = """<!doctype html><html lang="en"><head><title>Tiny</title><meta name="viewport" content="width=device-width">
<style>:root {{ color-scheme: light dark; }}</style></head>
<body><main><h1>Tiny</h1><button>First</button> <button>Second</button>{more}</main></body></html>"""


@pytest.fixture
def show(page: Page, stack: PageStack) -> Callable[..., Page]:
    """Return a function that opens a tiny page of this server's origin."""

    def show(more: str = "", policy: str = "default-src 'self'; style-src 'unsafe-inline'") -> Page:
        address = f"{stack.place.url}/tiny"
        headers = {"Content-Security-Policy": policy}
        page.route(
            address,
            lambda route: route.fulfill(body=TINY.format(more=more), content_type="text/html", headers=headers),
        )
        page.goto(address)
        return page

    return show


@pytest.fixture
def expecting(guard: Guard) -> Callable[[str], None]:
    """Return a function that checks that the guard has one problem, and takes it away."""

    def expecting(pattern: str) -> None:
        assert len(guard.problems) == 1, guard.problems
        assert re.search(pattern, guard.problems[0])
        guard.found.clear()

    return expecting


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_a_page_is_shown_in_each_look(show: Callable[..., Page], look: Look, tmp_path: Path, monkeypatch: Any) -> None:
    page = show()
    is_dark = page.evaluate("() => matchMedia('(prefers-color-scheme: dark)').matches")
    is_still = page.evaluate("() => matchMedia('(prefers-reduced-motion: reduce)').matches")
    assert (is_dark, is_still) == (look.theme == "dark", True)
    assert page.evaluate("() => innerWidth") == look.width
    monkeypatch.setenv("TUNEWRIGHT_SCREENSHOTS", str(tmp_path))
    assert save_screenshot(page, "tiny").stat().st_size < 300_000
    check_accessibility(page)
    check_reflow(page)


def test_accessibility_and_width_are_checked(show: Callable[..., Page]) -> None:
    page = show('<input><div style="width: 3000px">wide</div>')
    with pytest.raises(AssertionError, match=r"label .*Form elements"):
        check_accessibility(page)
    check_accessibility(page, exclude=["input"])
    with pytest.raises(AssertionError, match="px wide"):
        check_reflow(page)


def test_keys_reach_what_has_focus(show: Callable[..., Page]) -> None:
    page = show()
    tab_to(page, page.get_by_role("button", name="Second"))
    assert focused(page) == "<button> Second"
    press(page, "Shift+Tab")
    assert focused(page) == "<button> First"
    with pytest.raises(AssertionError, match="do not reach"):
        tab_to(page, page.get_by_role("heading"), most=3)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ("() => console.error('It broke.')", "console: It broke"),
        ("() => { setTimeout(() => { throw new Error('Lost.') }) }", "exception: .*Lost"),
        ("() => fetch('/nothing')", "404 GET .*/nothing"),
        ("() => fetch('/workers')", "401 GET .*/workers"),
    ],
)
def test_a_mistake_fails_a_test(
    show: Callable[..., Page], expecting: Callable[[str], None], wrong: str, problem: str
) -> None:
    page = show()
    page.evaluate(wrong)
    page.wait_for_timeout(50)
    expecting(problem)


def test_a_violation_of_the_policy_fails_a_test(show: Callable[..., Page], guard: Guard) -> None:
    show('<script>document.title = "Never"</script>')
    assert any("securitypolicyviolation: script-src" in each for each in guard.problems)
    guard.found.clear()


def test_another_host_fails_a_test(show: Callable[..., Page], guard: Guard) -> None:
    page = show('<img alt="elsewhere" src="http://elsewhere.invalid/x.png">', policy="img-src *")
    page.wait_for_timeout(50)
    assert any(each.startswith("another host: http://elsewhere.invalid/") for each in guard.problems)
    guard.found.clear()


def test_what_a_test_expects_is_allowed(show: Callable[..., Page], guard: Guard) -> None:
    guard.allow("404 GET .*/nothing$")
    show().evaluate("() => fetch('/nothing').then((answer) => answer.status)")
    assert not guard.problems


def test_a_signed_in_page_reads_the_demonstration(signed_in: Page, stack: PageStack) -> None:
    signed_in.goto("/docs")
    expect(signed_in.get_by_role("heading", name="Tunewright")).to_be_visible()
    found = signed_in.evaluate("() => fetch('/jobs?limit=100').then((answer) => answer.json())")
    assert {story.name for story in STORIES} <= {job["name"] for job in found["items"]}
    assert {job["state"] for job in found["items"]} == set(JobState)


def test_an_empty_project_has_no_jobs(signed_in_empty: Page) -> None:
    signed_in_empty.goto("/docs")
    assert signed_in_empty.evaluate("() => fetch('/jobs').then((answer) => answer.json())")["items"] == []


@pytest.fixture
def api(stack: PageStack, demo: Demo) -> Iterator[httpx2.Client]:
    headers = {"Authorization": f"Bearer {stack.place.key}"}
    with httpx2.Client(base_url=stack.place.url, headers=headers, timeout=30) as client:
        yield client


def test_running_jobs_take_steps(api: httpx2.Client, pulse: Pulse) -> None:
    job = pulse.jobs[0]
    before = api.get(f"/jobs/{job.id}").json()
    pulse.take_step(job)
    after = api.get(f"/jobs/{job.id}").json()
    assert after["step"] == before["step"] + 1
    assert after["last_metrics"]["loss"] != before["last_metrics"]["loss"]


def test_every_result_of_the_demonstration_can_be_downloaded(api: httpx2.Client, demo: Demo) -> None:
    listed = api.get("/adapters").json()["items"]
    smallest = min(listed, key=lambda adapter: adapter["size"])
    files = api.get(f"/adapters/{smallest['id']}").raise_for_status().json()["files"]
    for file in files:
        assert len(api.get(file["url"]).raise_for_status().content) == file["size"]


def test_the_context_has_a_cookie_and_no_key(context: BrowserContext, signed_in: Page) -> None:
    [cookie] = context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
