"""Tests what people do with the page, from the key to the downloaded adapter, on a stack that trains on the CPU."""

import csv
import io
import json
import re
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.page.browser import Guard
from tests.page.demo import rows
from tests.page.demo.pulse import Pulse
from tests.page.demo_data import Demo
from tests.page.stack import PageStack

LONG = 120_000
"""Is the wait for a training, in milliseconds."""
READ_CHART = "(chart) => chart.formatCsv()"


@pytest.fixture
def api(stack: PageStack) -> Iterator[httpx2.Client]:
    headers = {"Authorization": f"Bearer {stack.place.key}"}
    with httpx2.Client(base_url=stack.place.url, headers=headers, timeout=30, trust_env=False) as client:
        yield client


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Return a dataset whose third row is wrong, and the same corrected."""
    good = [json.loads(line) for line in rows.as_lines(rows.chats(40, 11)).splitlines()]
    bad = json.loads(json.dumps(good))
    bad[2]["messages"][0]["role"] = "customer"
    paths = tmp_path / "greetings-draft.jsonl", tmp_path / "greetings.jsonl"
    for path, lines in zip(paths, (bad, good), strict=True):
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return paths


def test_from_the_key_to_the_downloaded_adapter(
    page: Page,
    guard: Guard,
    stack: PageStack,
    api: httpx2.Client,
    training_worker: str,
    files: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    guard.allow("401 POST .*/session")
    sign_in_by_form(page, stack.place.key)
    dataset_id = upload_and_correct(page, files)
    job_id = create_by_form(page, dataset_id, training_worker)
    expect(page.get_by_role("heading", level=1)).to_contain_text("succeeded", timeout=LONG)
    shown = steps_shown(page.locator("line-chart").first)
    assert shown == steps_stored(api, job_id), "the curve that grew is the whole curve"

    page.get_by_role("link", name="Artifacts").or_(page.get_by_role("tab", name="Artifacts")).first.click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download adapter.tar").click()
    download.value.save_as(tmp_path / "adapter.tar")
    with tarfile.open(tmp_path / "adapter.tar") as archive:
        assert any(name.endswith("adapter_model.safetensors") for name in archive.getnames())


def sign_in_by_form(page: Page, key: str) -> None:
    page.goto("/")
    field = page.get_by_label("API key")
    field.fill(key.replace("tw_", "tw_0", 1))
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("does not know this key")
    expect(field).to_be_focused()
    field.fill(key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Jobs", level=1)).to_be_visible()


def upload_and_correct(page: Page, files: tuple[Path, Path]) -> str:
    draft, corrected = files
    page.get_by_role("link", name="Datasets").click()
    page.locator("input[type=file]").first.set_input_files(draft)
    page.get_by_role("link", name=draft.name).first.click()
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_contain_text("invalid", timeout=LONG)
    page.get_by_role("link", name=re.compile("^Problems")).click()
    expect(page.get_by_role("main")).to_contain_text("role is 'customer'")
    expect(page.get_by_role("main")).to_contain_text("Line 3")

    page.get_by_role("link", name="Datasets").first.click()
    page.locator("input[type=file]").first.set_input_files(corrected)
    page.get_by_role("link", name=corrected.name, exact=True).first.click()
    expect(heading).to_contain_text("ready", timeout=LONG)
    return page.url.rsplit("/", 1)[1].partition("?")[0]


def create_by_form(page: Page, dataset_id: str, model: str) -> str:
    page.goto(f"/ui/new?dataset={dataset_id}")
    main = page.get_by_role("main")
    main.get_by_label("Base model").select_option(model)
    main.get_by_label("Name").first.fill("greetings")
    epochs = main.get_by_role("textbox", name="Epochs")
    epochs.fill("-1")
    expect(epochs).to_have_attribute("aria-invalid", "true")
    epochs.fill("8")
    expect(epochs).not_to_have_attribute("aria-invalid", "true")
    main.get_by_role("heading", name="Workers, memory and limits").click()
    main.get_by_role("radiogroup", name="Device").get_by_role("radio", name="CPU").check()
    main.get_by_role("button", name="Create job").click()
    expect(page).to_have_url(re.compile(r"/ui/jobs/ftjob-"))
    return page.url.rsplit("/", 1)[1].partition("?")[0]


def test_the_curve_grows_and_recovers_when_the_api_is_killed(
    signed_in: Page, stack: PageStack, api: httpx2.Client, pulse: Pulse, guard: Guard
) -> None:
    page, job = signed_in, pulse.jobs[0]
    guard.allow("net::ERR_", r"503 GET", r"502 GET")
    page.goto(f"/ui/jobs/{job.id}")
    chart = page.locator("line-chart").first
    expect(chart).to_be_visible()
    page.wait_for_timeout(1500)
    before = steps_shown(chart)
    for _ in range(3):
        pulse.take_step(job)
    wait_for(lambda: steps_shown(chart)[-3:] == [job.step - 2, job.step - 1, job.step])

    stack.children["api"].kill()
    for _ in range(5):
        pulse.take_step(job)
    stack.restart_api()
    wait_for(lambda: steps_shown(chart)[-1] == job.step, seconds=60)
    pulse.take_step(job)
    wait_for(lambda: steps_shown(chart)[-1] == job.step, seconds=30)
    shown = steps_shown(chart)
    assert shown[: len(before)] == before
    assert shown == sorted(set(shown)), "no step is shown twice, and all in order"
    assert shown[-9:] == list(range(job.step - 8, job.step + 1)), "nothing is missing"


def steps_shown(chart: Locator) -> list[int]:
    """Return the steps of the chart's first curve."""
    lines = list(csv.reader(io.StringIO(chart.evaluate(READ_CHART))))
    return [int(float(line[0])) for line in lines[1:] if line[1] not in ("", "NaN")]


def steps_stored(api: httpx2.Client, job_id: str) -> list[int]:
    answer = api.get(f"/jobs/{job_id}/metrics", params={"names": "loss"}).raise_for_status().json()
    return [point["step"] for point in answer["items"]]


def wait_for(condition: Callable[[], bool], seconds: float = 15) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "the condition did not become true"
        time.sleep(0.2)


def test_jobs_are_selected_compared_cloned_and_cancelled(
    signed_in: Page, demo: Demo, copied_job: Callable[[str], str], api: httpx2.Client
) -> None:
    page = signed_in
    id = copied_job("support-replies-qwen3-4b")
    names = ("support-replies-qwen3-1.7b", "ticket-routing-gemma-3-270m")
    page.goto("/ui/jobs")
    for name in names:
        page.get_by_role("row").filter(has_text=name).get_by_role("checkbox").check()
    page.get_by_role("button", name="Compare").or_(
        page.get_by_role("link", name=re.compile("^Compare .*jobs"))
    ).last.click()
    expect(page).to_have_url(re.compile(r"/ui/compare\?job=.*&job="))
    for name in names:
        expect(page.get_by_role("main")).to_contain_text(name)
    page.go_back()
    expect(page.get_by_role("heading", name="Jobs", level=1)).to_be_visible()

    page.goto(f"/ui/jobs/{id}")
    page.get_by_role("link", name="Clone").or_(page.get_by_role("button", name="Clone")).first.click()
    expect(page).to_have_url(re.compile(rf"/ui/new\?from={id}"))
    expect(page.get_by_label("Base model")).to_have_value("qwen3-4b")
    page.go_back()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name=re.compile("Cancel")).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(re.compile("cancell"))
    assert api.get(f"/jobs/{id}").json()["state"] in ("cancelling", "cancelled")


def test_all_rows_of_the_list_follow_their_jobs(signed_in: Page, pulse: Pulse) -> None:
    signed_in.goto("/ui/jobs")
    steps = {job.id: signed_in.locator(f'tr[data-id="{job.id}"] .job-numbers') for job in pulse.jobs}
    for _ in range(2):
        for job in pulse.jobs:
            expect(steps[job.id]).to_contain_text(f"{job.step:,} /")
            pulse.take_step(job)
    for job in pulse.jobs:
        expect(steps[job.id]).to_contain_text(f"{job.step:,} /")


def test_seven_tabs_are_alive_when_shown(signed_in: Page, stack: PageStack, pulse: Pulse) -> None:
    """A browser opens six connections to a host: a hidden tab must keep none."""
    context, job = signed_in.context, pulse.jobs[0]
    tabs = [signed_in, *(context.new_page() for _ in range(6))]
    for tab in tabs:
        tab.bring_to_front()
        tab.goto(f"/ui/jobs/{job.id}")
        expect(tab.locator("line-chart").first).to_be_visible()
    for tab in tabs:
        tab.bring_to_front()
        pulse.take_step(job)
        chart = tab.locator("line-chart").first
        wait_for(lambda chart=chart: steps_shown(chart)[-1:] == [job.step])
