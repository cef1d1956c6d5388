"""Tests the page under a name of a local network without TLS, where browsers offer less: no clipboard, no
`crypto.subtle`, and no `Sec-Fetch-Site`."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect

from tests.page.browser import Guard, Look, open_context
from tests.page.demo import rows
from tests.page.demo_data import Demo
from tests.page.stack import PageStack

if TYPE_CHECKING:
    from playwright.sync_api import Browser

KEY = "API key"


@pytest.fixture
def lan_page(chromium: "Browser", stack: PageStack, demo: Demo) -> Iterator[Page]:
    """Open the sign-in form of the server as `tunewright.lan`, which Chromium resolves to this machine."""
    url = stack.place.url.replace("127.0.0.1", "tunewright.lan")
    guard = Guard(url)
    context = open_context(chromium, Look(), base_url=url)
    guard.watch(context)
    page = context.new_page()
    page.goto("/")
    yield page
    context.close()
    assert not guard.problems, "\n".join(guard.problems)


def test_the_page_works_without_what_browsers_keep_for_https(
    lan_page: Page, stack: PageStack, demo: Demo, tmp_path: Path
) -> None:
    page = lan_page
    assert page.evaluate("() => [isSecureContext, navigator.clipboard, crypto.subtle]") == [False, None, None]
    page.get_by_label(KEY).fill(stack.place.key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Jobs", level=1)).to_be_visible()

    id = demo.jobs["support-replies-qwen3-4b"]
    page.goto(f"/ui/jobs/{id}")
    page.get_by_role("button", name=f"Copy {id}").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    expect(page.locator("line-chart").first).to_be_visible()

    path = tmp_path / "from-the-lan.jsonl"
    path.write_bytes(rows.as_lines(rows.chats(30, 21)))
    page.goto("/ui/datasets")
    page.locator("input[type=file]").first.set_input_files(path)
    page.get_by_role("link", name=path.name).first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(re.compile("ready"), timeout=60_000)

    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label(KEY)).to_be_visible()
