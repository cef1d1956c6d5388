"""Tests what can be done in the views of keys, webhooks, workers and adapters."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.page.browser import Guard
from tests.page.demo_data import Demo


@pytest.fixture
def keys(signed_in: Page) -> Page:
    signed_in.goto("/ui/keys")
    expect(signed_in.get_by_role("button", name="Create key")).to_be_visible()
    return signed_in


def test_a_key_is_created_rotated_and_revoked(keys: Page) -> None:
    keys.get_by_role("button", name="Create key").click()
    dialog = keys.get_by_role("dialog")
    dialog.get_by_label("Name").fill("nightly build")
    dialog.get_by_role("button", name="Create", exact=True).click()
    expect(keys.get_by_role("textbox", name="Secret")).to_have_value(re.compile("^tw_"))
    keys.get_by_role("button", name="I have copied it").click()
    rows = keys.get_by_role("row", name="nightly build")
    expect(rows).to_have_count(1)
    rows.get_by_role("button", name="Rotate").click()
    dialog.get_by_role("button", name="Rotate", exact=True).click()
    keys.get_by_role("button", name="I have copied it").click()
    expect(rows).to_have_count(2)
    rows.filter(has_text="replaced by").get_by_role("button", name="Revoke").click()
    dialog.get_by_role("button", name="Revoke", exact=True).click()
    expect(rows).to_have_count(1)


def test_an_error_stands_at_its_field_of_the_dialog(keys: Page, guard: Guard) -> None:
    guard.allow(r"422 POST \S+/keys$")
    keys.get_by_role("button", name="Create key").click()
    dialog = keys.get_by_role("dialog")
    dialog.get_by_role("button", name="Create", exact=True).click()
    expect(dialog.get_by_label("Name")).to_be_focused()
    expect(dialog.get_by_label("Name")).to_have_attribute("aria-invalid", "true")


def test_a_webhook_is_added_tested_and_deleted(signed_in: Page) -> None:
    page = signed_in
    page.goto("/ui/webhooks")
    page.get_by_role("button", name="Add webhook").click()
    page.get_by_role("dialog").get_by_label("URL").fill("http://127.0.0.1:9/hook")
    page.get_by_role("dialog").get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("textbox", name="Secret")).to_have_value(re.compile("^whsec_"))
    page.get_by_role("button", name="I have copied it").click()
    page.get_by_role("button", name="Send a test").click()
    expect(page.get_by_role("row", name="test")).to_be_visible()
    page.get_by_role("button", name="Disable").click()
    expect(page.get_by_role("button", name="Enable")).to_be_visible()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="Webhooks")).to_be_visible()
    expect(page.get_by_role("row", name="127.0.0.1:9")).to_have_count(0)


def test_workers_say_why_they_cannot_take_a_job(signed_in: Page, demo: Demo) -> None:
    page = signed_in
    page.goto(f"/ui/workers?job={demo.jobs['legal-answers-llama-3.3-70b']}")
    expect(page.get_by_text("The job requires 96 GB").first).to_be_visible()
    page.get_by_role("button", name="Show without the job").click()
    expect(page.get_by_text("The job requires 96 GB")).to_have_count(0)


def test_an_adapter_starts_a_new_job(signed_in: Page) -> None:
    page = signed_in
    page.goto("/ui/adapters")
    page.get_by_role("link", name="ft:qwen3-1.7b:support").click()
    expect(page.get_by_role("link", name="Download")).to_have_attribute("download", "")
    page.get_by_role("link", name="New job from it").click()
    expect(page.get_by_label("Base model")).to_have_value("qwen3-1.7b")
    page.locator("summary", has_text="Adapter").click()
    expect(page.get_by_label("Start from")).not_to_have_value("")
