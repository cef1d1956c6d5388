"""Tests each view in light and dark, wide and narrow: it settles without an error, axe finds nothing, nothing makes the
page scroll sideways, and the keyboard reaches every control."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.page.browser import LOOKS, Look, check_accessibility, check_reflow
from tests.page.demo_data import Demo
from tests.page.screenshots import SETTLED, SHOTS, Shot

Settle = Callable[[Shot], None]

COUNT_CONTROLS = """() => {
  const all = 'a[href], button, input, select, textarea, summary, [tabindex="0"]';
  const isShown = (each) => each.checkVisibility({visibilityProperty: true}) && !each.disabled && each.tabIndex >= 0;
  const isFirstOfGroup = (each) => each.type !== 'radio' || each.checked ||
    !document.querySelector(`input[type=radio][name="${each.name}"]:checked`);
  const shown = [...document.querySelectorAll(all)].filter((each) => isShown(each) && isFirstOfGroup(each));
  window.unreached = new Set(shown);
  return shown.length;
}"""
NOTE_FOCUS = """() => {
  window.unreached.delete(document.activeElement);
  return document.activeElement !== document.body;
}"""
DESCRIBE_UNREACHED = """() => [...window.unreached].filter((each) => each.isConnected).map(
  (each) => each.cloneNode(false).outerHTML + (each.textContent ?? '').trim().slice(0, 40))"""


@pytest.fixture
def settle(page: Page, signed_in: Page, demo: Demo) -> Settle:
    """Return a function that shows a view and waits until it has loaded."""

    def settle(shot: Shot) -> None:
        if not shot.signed_in:
            page.context.clear_cookies()
        page.goto(shot.path(demo))
        expect(page.get_by_role("heading", name=shot.heading).first).to_be_visible()
        page.wait_for_function(SETTLED, timeout=15_000)

    return settle


@pytest.mark.parametrize("look", [*LOOKS, Look("light", 320)], ids=str)
@pytest.mark.parametrize("shot", SHOTS, ids=lambda shot: shot.name)
def test_a_view_is_accessible_and_fits(page: Page, settle: Settle, shot: Shot, look: Look) -> None:
    """320 px are the width of a window of 1280 px at a zoom of 400 %."""
    settle(shot)
    check_accessibility(page)
    check_reflow(page)


@pytest.mark.parametrize("shot", SHOTS, ids=lambda shot: shot.name)
def test_the_keyboard_reaches_every_control(page: Page, settle: Settle, shot: Shot) -> None:
    settle(shot)
    most = page.evaluate(COUNT_CONTROLS) + 10
    page.evaluate(NOTE_FOCUS)  # Tab goes on from the field that has the focus at first
    page.evaluate("() => document.activeElement.blur()")
    for _ in range(most):
        page.keyboard.press("Tab")
        if not page.evaluate(NOTE_FOCUS):
            break
    assert page.evaluate(DESCRIBE_UNREACHED) == []


@pytest.mark.parametrize("look", [Look("light", 390)], ids=str)
@pytest.mark.parametrize("path", ["jobs", "datasets", "adapters", "models", "workers", "webhooks", "keys", "compare"])
def test_an_empty_view_says_what_to_do_first(signed_in_empty: Page, path: str) -> None:
    page = signed_in_empty
    page.goto(f"/ui/{path}")
    page.wait_for_function(SETTLED)
    expect(page.get_by_role("main")).not_to_be_empty()
    check_accessibility(page)
    check_reflow(page)
