"""Tests the form that creates a job: by keyboard, with errors on the way, as a clone, and over a reload."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.page.browser import Guard, press
from tests.page.demo_data import Demo

VALIDATION = r"422 POST \S+/jobs\?validate_only=true$"


@pytest.fixture
def form(signed_in: Page, tiny_model: str) -> Page:
    page = signed_in
    page.goto("/ui/new")
    expect(page.get_by_label("Base model")).to_be_visible()
    return page


def choose(page: Page, model: str = "llama-tiny", dataset: str = "support-replies") -> None:
    page.get_by_label("Base model").select_option(model)
    options = page.get_by_label("Dataset", exact=True).locator("option")
    label = next(text for text in options.all_inner_texts() if text.startswith(dataset) and "rows" in text)
    page.get_by_label("Dataset", exact=True).select_option(label=label)


def box(page: Page, label: str) -> Locator:
    return page.get_by_role("textbox", name=label, exact=True)


def open_group(page: Page, title: str) -> None:
    page.locator("summary", has_text=title).click()


def test_a_job_is_created_with_changed_fields(form: Page) -> None:
    choose(form)
    box(form, "Name").fill("by form")
    open_group(form, "Adapter")
    box(form, "Rank").fill("32")
    expect(form.get_by_role("button", name="Reset Rank to 16")).to_be_visible()
    expect(form.locator(".verdict")).to_contain_text("Ready")
    form.get_by_role("button", name="Create job").click()
    form.wait_for_url(re.compile("/ui/jobs/ftjob-"))
    job = form.request.get(f"/jobs/{form.url.split('/')[-1].split('?')[0]}").json()
    assert (job["name"], job["spec"]["adapter"]["rank"], job["spec"]["training"]["epochs"]) == ("by form", 32, 3)


def test_an_attempt_without_a_dataset_names_the_fields_and_moves_the_focus(form: Page) -> None:
    form.get_by_role("button", name="Create job").click()
    summary = form.get_by_role("alert").filter(has_text="must be changed")
    expect(summary).to_contain_text("Dataset: Select a dataset.")
    expect(form.get_by_label("Base model")).to_be_focused()
    summary.get_by_role("link", name="Dataset").click()
    expect(form.get_by_label("Dataset", exact=True)).to_be_focused()


def test_errors_stand_at_their_fields_while_one_types(form: Page, guard: Guard) -> None:
    guard.allow(VALIDATION)
    choose(form)
    open_group(form, "Adapter")
    box(form, "Rank").fill("2000")
    expect(form.locator("#problem-field-adapter-rank")).to_have_text("Enter 1024 or less.")
    expect(box(form, "Rank")).to_have_attribute("aria-invalid", "true")
    box(form, "Rank").fill("8")
    expect(form.locator("#problem-field-adapter-rank")).to_be_empty()
    open_group(form, "Rows and tokens")
    form.get_by_role("radiogroup", name="Maximum length").get_by_role("radio", name="Custom").check()
    form.get_by_role("textbox", name="Maximum length").fill("4096")
    problem = form.locator("#row-field-training-max_seq_len .field-problem").filter(
        has_text="supports at most 512 tokens"
    )
    expect(problem.first).to_be_visible()


def test_a_clone_marks_what_changed_and_survives_a_reload(signed_in: Page, demo: Demo) -> None:
    page = signed_in
    page.goto(f"/ui/new?from={demo.jobs['sql-from-questions-llama-3.1-8b']}")
    expect(page.get_by_role("heading", name="Clone with changes")).to_be_visible()
    expect(page.locator(".form-row.changed")).to_have_count(0)
    box(page, "Batch size").fill("16")
    expect(page.get_by_role("button", name="Reset Batch size to 8")).to_be_visible()
    expect(page.locator(".verdict")).to_contain_text("Ready")
    page.on("dialog", lambda dialog: dialog.accept())
    page.reload()
    expect(box(page, "Batch size")).to_have_value("16")
    page.get_by_role("button", name="Start over").click()
    expect(box(page, "Batch size")).to_have_value("8")


def test_fields_of_another_method_are_kept_and_not_sent(form: Page) -> None:
    choose(form)
    open_group(form, "Adapter")
    box(form, "Rank").fill("8")
    call = form.get_by_role("tabpanel")
    expect(call).to_contain_text('"rank": 8')
    form.get_by_role("radio", name="Full").check()
    expect(call).not_to_contain_text("rank")
    expect(call).to_contain_text('"method": "full"')
    form.get_by_role("radio", name="QLoRA").check()
    expect(call).to_contain_text('"rank": 8')


def test_the_calls_are_chosen_by_arrow_keys(form: Page) -> None:
    form.get_by_role("tab", name="curl").focus()
    press(form, "ArrowRight", "ArrowRight")
    expect(form.get_by_role("tab", name="CLI", exact=True)).to_be_focused()
    expect(form.get_by_role("tabpanel")).to_contain_text("tunewright jobs create")
    press(form, "ArrowRight")
    expect(form.get_by_role("tabpanel")).to_contain_text("fine_tuning.jobs.create")


def test_pairs_keep_the_focus_while_one_types(form: Page) -> None:
    open_group(form, "Result name")
    form.get_by_role("group", name="Metadata").get_by_role("button", name="Add").click()
    form.keyboard.type("team")
    press(form, "Tab")
    form.keyboard.type("support")
    expect(form.get_by_role("tabpanel")).to_contain_text('"metadata": {"team": "support"}')
