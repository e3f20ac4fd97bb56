"""The page in a real browser, headless, beside a real sink."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.fakes import VOID, counted_episode
from tests.page.conftest import EPISODES, HOSTILE, PLANS, SPEC, TOKEN, Watched, collect
from tests.processes import wait_until

CHROMIUM = "chromium"
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
LONG = max(
    range(EPISODES),
    key=lambda index: counted_episode(SPEC, index).steps * (counted_episode(SPEC, index).outcome != VOID),
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which(CHROMIUM)
    if path is None:
        pytest.skip("no Chromium here; `make chromium` installs it, as root")
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab. Whatever it complains about, scripts that were refused among it, fails the test."""
    context = browser.new_context(viewport=WIDE)
    page = context.new_page()
    page.set_default_timeout(45_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: message.type in ("error", "warning") and complaints.append(message.text))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    yield page
    hacked = page.evaluate("window.hacked")
    context.close()
    assert hacked is None
    # Answers that say no are part of some tests.
    assert [text for text in complaints if not text.startswith("Failed to load resource")] == []


def shown(page: Page, selector: str) -> None:
    """All pictures there are loaded, and there is one at least."""
    page.wait_for_function(
        "(s) => { const all = [...document.querySelectorAll(s)];"
        " return all.length && all.every((image) => image.complete && image.naturalWidth > 0); }",
        arg=selector,
    )


def test_counters_move_and_frames_appear_while_it_collects(page: Page, watched: Watched) -> None:
    page.goto(watched.url)
    before = int(page.locator("#episodes").inner_text())
    assert page.locator("#state").inner_text() == "waiting for producers"
    seen: list[str] = []

    def look() -> None:
        if len(seen) == 1:
            page.wait_for_function("() => document.querySelector('#state').textContent === 'collecting'")
            page.locator("#producers td.name", has_text=HOSTILE).wait_for()
        seen.append(page.locator("#newest figcaption").first.inner_text())

    collect(watched.sink.endpoint, 3, look)
    page.wait_for_function(f"() => Number(document.querySelector('#episodes').textContent) === {before + 3}")
    shown(page, "#newest img")
    assert page.locator("#newest img").count() == len(SPEC.cameras) + 1
    assert page.locator("#streams").get_by_text(SPEC.name).is_visible()


def test_scrubbing_moves_all_cameras_and_plots(page: Page, watched: Watched) -> None:
    made = counted_episode(SPEC, LONG)
    page.goto(f"{watched.url}#/episode/{LONG}/{SPEC.name}")
    shown(page, ".camera img")
    page.wait_for_function("() => document.querySelectorAll('.plots .uplot').length >= 3")

    def is_at(step: int) -> None:
        for camera in SPEC.cameras:
            page.locator(f'img[src$="/{LONG}/{camera.name}/{step}.jpg"]').wait_for()
        assert page.locator("#step b").inner_text() == str(step)
        told = page.locator(".plots .plot").first.locator(".u-value").nth(1).inner_text()
        assert float(told) == pytest.approx(float(made.columns["action"][step, 0]), rel=0.01, abs=1e-3)

    is_at(0)
    page.locator("input[type=range]").fill("3")
    is_at(3)
    page.locator("h1").click()
    page.keyboard.press("ArrowRight")
    is_at(4)
    page.locator("button.play").click()
    is_at(made.steps - 1)


def test_a_plan_is_shown_push_by_push(page: Page, watched: Watched) -> None:
    page.goto(f"{watched.url}#/episodes?version=object+000001-aaaa")
    page.locator(".episode-card", has_text="#0").click()
    shown(page, ".panels img")
    assert page.url.endswith(f"#/episode/0/{PLANS}")
    captions = page.locator(".panels figcaption").all_inner_texts()
    assert captions[0].startswith("Before push 1 of 1: box 1, obstacle_0_movable")
    assert "the goal can be reached" in captions[1]
    assert HOSTILE in page.locator("h2", has_text="Plan").inner_text()


def test_filters_are_in_the_address(page: Page, watched: Watched) -> None:
    page.goto(f"{watched.url}#/episodes")
    page.locator(".episode-card").first.wait_for()
    page.locator("select[name=stream]").select_option(SPEC.name)
    page.locator("select[name=outcome]").select_option("void")
    page.locator("input[name=last]").fill(str(EPISODES - 1))
    page.locator("input[name=last]").press("Tab")
    void = [index for index in range(EPISODES) if counted_episode(SPEC, index).outcome == VOID]
    page.locator(".count", has_text=re.compile(f"^{len(void)} episode")).wait_for()
    assert page.locator(".episode-card b").all_inner_texts() == [f"#{index}" for index in reversed(void)]
    page.reload()
    page.locator(".count", has_text=re.compile(f"^{len(void)} episode")).wait_for()
    assert "outcome=void" in page.url


def test_nothing_is_wider_than_a_telephone(page: Page, watched: Watched) -> None:
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size(NARROW)
    for place, wait in (("", "#newest img"), ("episodes", ".episode-card"), (f"episode/{LONG}/{SPEC.name}", ".uplot")):
        page.goto(f"{watched.url}#/{place}")
        page.locator(wait).first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"], place


def test_a_discard_sticks_after_a_restart(page: Page, watched: Watched) -> None:
    address = f"{watched.url}#/episode/{LONG}/{SPEC.name}"
    page.goto(address)
    page.locator(".marks").wait_for()
    assert page.get_by_role("button", name="Discard").count() == 0
    page.locator("#token-button").click()
    page.locator("#token").fill("wrong")
    page.get_by_role("button", name="Let me in").click()
    page.locator("#token-trouble", has_text="that is not the token").wait_for()
    page.locator("#token").fill(TOKEN)
    page.get_by_role("button", name="Let me in").click()
    page.get_by_role("button", name="Discard").click()
    page.locator(".marks .trouble", has_text="expected a reason").wait_for()
    page.locator("input[aria-label=Reason]").fill(HOSTILE)
    page.get_by_role("button", name="Discard").click()
    page.locator(".chip.mark", has_text="discarded").wait_for()
    with watched.sink:
        assert watched.sink.terminate() == 0
    watched.start()
    page.goto(f"{watched.url}#/episodes?mark=discarded")
    page.locator(".episode-card.discarded", has_text=f"#{LONG}").wait_for()
    page.locator(".episode-card").click()
    page.locator(".marks li", has_text=HOSTILE).wait_for()
    wait_until(lambda: page.locator("#state").inner_text() == "waiting for producers", "the new sink was asked")
