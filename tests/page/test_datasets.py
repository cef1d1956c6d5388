"""Tests datasets in the page: uploads with their interruptions, problems, previews, overlaps, cleaning."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Request, Route, expect

from tests.page.browser import Guard, check_accessibility, press
from tests.page.stack import PageStack

LONG = 60_000
PART_BYTES = 4 * 2**20

Write = Callable[[str, Sequence[dict[str, Any]]], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, rows: Sequence[dict[str, Any]]) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def large_file(tmp_path: Path) -> Path:
    """Write a file of five parts, no two of which are equal."""
    path = tmp_path / "ticket-archive.jsonl"
    rows = (
        f'{{"prompt": "Ticket {number}: {"where is it? " * 20}", "completion": "On its way."}}\n'
        for number in range(10**6)
    )
    with path.open("w") as file:
        while file.tell() < 4.5 * PART_BYTES:
            file.write(next(rows))
    return path


def conversation(number: int, role: str = "assistant") -> dict[str, Any]:
    turns = [
        {"role": "user", "content": f"Where is order {number}?"},
        {"role": role, "content": f"Order {number} left."},
    ]
    return {"messages": turns}


def upload(page: Page, *paths: Path) -> None:
    page.goto("/ui/datasets")
    expect(page.get_by_role("heading", name="Datasets", exact=True)).to_be_visible()
    page.locator(".view-header input[type=file]").set_input_files(paths)


def open_uploaded(page: Page, path: Path, state: str) -> None:
    """Upload a file and open its dataset once it is in a state."""
    upload(page, path)
    page.get_by_role("link", name=f"Show: {path.name}").click()
    expect(page.get_by_role("heading", name=re.compile(re.escape(path.name)))).to_contain_text(state, timeout=LONG)


def throttle(page: Page, bytes_per_second: float) -> None:
    session = page.context.new_cdp_session(page)
    limits = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second}
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", limits)


def count_parts(page: Page) -> list[str]:
    """Return a list that grows by each part that is sent."""
    sent: list[str] = []

    def note(request: Request) -> None:
        if request.url.endswith("/parts"):
            sent.append(request.url)

    page.on("request", note)
    return sent


def test_a_bad_row_is_found_explained_and_left_out(signed_in: Page, write: Write) -> None:
    page = signed_in
    rows = [conversation(number) for number in range(1, 5)]
    path = write("returns-desk.jsonl", [*rows, conversation(5, "bot")])
    open_uploaded(page, path, "invalid")
    press(page, "2")
    expect(page.get_by_role("heading", name="A turn has an unknown role (error)")).to_be_visible()
    expect(page.get_by_text("Line 5").first).to_be_visible()
    page.get_by_role("button", name="error: unknown_role 1").click()
    expect(page.get_by_role("region", name="Write instead")).to_contain_text('"role": "assistant"')
    check_accessibility(page)
    page.get_by_role("button", name="Clean", exact=True).click()
    page.get_by_role("button", name="Create cleaned dataset").click()
    expect(page.get_by_text("Cleaned from")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_contain_text("ready", timeout=LONG)
    expect(page.get_by_text("4 rows", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="Train on it")).to_have_attribute(
        "href", re.compile(r"/ui/new\?dataset=file-")
    )


def test_an_upload_continues_after_a_pause_and_a_reload(signed_in: Page, guard: Guard, large_file: Path) -> None:
    page = signed_in
    guard.allow(r"/parts")  # the pause stops the parts that are under way
    page.on("dialog", lambda dialog: dialog.accept())
    sent = count_parts(page)
    throttle(page, 1.5e6)
    upload(page, large_file)
    row = page.locator(".upload")
    expect(row).to_contain_text(re.compile(r"\d(\.\d)? [kM]B/s"), timeout=LONG)
    with page.expect_response(re.compile(r"/parts$"), timeout=LONG):
        pass
    page.get_by_role("button", name="Pause: ticket-archive.jsonl").click()
    expect(page.get_by_role("button", name="Continue: ticket-archive.jsonl")).to_be_focused()
    num_before = len(sent)
    throttle(page, -1)
    page.reload()
    expect(row).to_contain_text("Not finished")
    expect(row).to_contain_text("stored")
    page.locator(".upload input[type=file]").set_input_files(large_file)
    expect(row).to_contain_text("Uploaded", timeout=LONG)
    assert 1 <= len(sent) - num_before < 5, "a stored part was sent again"
    page.get_by_role("link", name="Show: ticket-archive.jsonl").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("ready", timeout=LONG)


def test_another_file_does_not_continue_an_upload(
    signed_in: Page, guard: Guard, large_file: Path, write: Write
) -> None:
    page = signed_in
    guard.allow(r"/parts")
    throttle(page, 2e5)
    upload(page, large_file)
    page.get_by_role("button", name="Pause: ticket-archive.jsonl").click()
    page.reload()
    other = write("other.jsonl", [conversation(1)])
    page.locator(".upload input[type=file]").set_input_files(other)
    expect(page.get_by_text("is another file")).to_be_visible()
    page.get_by_role("button", name="Cancel: ticket-archive.jsonl").click()
    expect(page.locator(".upload")).to_have_count(0)


def test_a_busy_server_is_asked_again(signed_in: Page, guard: Guard, large_file: Path) -> None:
    page = signed_in
    guard.allow(r"503")
    refused: list[str] = []

    def refuse_twice(route: Route) -> None:
        if len(refused) >= 2:
            return route.continue_()
        refused.append(route.request.url)
        problem = {"code": "busy", "detail": "The server process is at its limit."}
        return route.fulfill(status=503, headers={"Retry-After": "1"}, json=problem)

    page.route(re.compile(r"/parts$"), refuse_twice)
    upload(page, large_file)
    expect(page.locator(".upload")).to_contain_text("The server process is at its limit.")
    expect(page.locator(".upload")).to_contain_text("Uploaded", timeout=LONG)


def test_an_answer_that_is_lost_creates_nothing_twice(
    signed_in: Page, guard: Guard, stack: PageStack, write: Write
) -> None:
    page = signed_in
    guard.allow(r"/datasets\?filename=")
    path = write("warranty-questions.jsonl", [conversation(number) for number in range(700, 720)])
    num_sent = 0

    def lose_answer(route: Route) -> None:
        nonlocal num_sent
        num_sent += 1
        route.fetch()
        route.abort("connectionreset")

    page.route(re.compile(r"/datasets\?filename="), lose_answer)
    upload(page, path)
    expect(page.locator(".upload")).to_contain_text("Uploaded", timeout=LONG)
    assert num_sent == 1
    expect(page.get_by_role("region", name="Datasets").get_by_text(path.name)).to_have_count(1)


def test_a_preview_marks_what_is_trained(signed_in: Page, tiny_model: str, write: Write) -> None:
    page = signed_in
    open_uploaded(page, write("preview-me.jsonl", [conversation(number) for number in range(1, 9)]), "ready")
    press(page, "3")
    page.get_by_label("Base model").select_option(tiny_model)
    page.get_by_label("Rows").fill("lines 2, 4")
    page.get_by_role("button", name="Preview", exact=True).click()
    expect(page.locator("mark.trained").last).to_contain_text("Order 2 left.", timeout=LONG)
    expect(page.get_by_text("2 of 2")).to_have_count(0)
    page.get_by_role("heading", name=re.compile("Line 2")).click()
    press(page, "j")
    expect(page.locator("mark.trained").last).to_contain_text("Order 4 left.")
    page.get_by_role("button", name="Spaces and line breaks").click()
    expect(page.locator(".sign").first).to_be_visible()
    page.get_by_text("List the tokens with their ids").click()
    expect(page.get_by_role("region", name="Tokens").get_by_role("cell", name="trained").first).to_be_visible()
    expect(page).to_have_url(re.compile(r"preview=preview-.*row=2.*spaces=1"))
    check_accessibility(page)


def test_rows_in_both_datasets_are_listed(signed_in: Page, write: Write) -> None:
    page = signed_in
    rows = [conversation(number) for number in range(300, 320)]
    open_uploaded(page, write("held-out.jsonl", rows[:5]), "ready")
    open_uploaded(page, write("all-of-it.jsonl", rows), "ready")
    press(page, "4")
    name = page.get_by_label("Validation dataset").get_by_role("option", name=re.compile("^held-out.jsonl")).first
    page.get_by_label("Validation dataset").select_option(name.get_attribute("value"))
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_text("5 of 5 validation rows (100%) are in this dataset too")).to_be_visible(timeout=LONG)
    check_accessibility(page)
