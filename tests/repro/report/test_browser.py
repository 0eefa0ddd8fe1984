"""The report in a real browser: opens, sorts, filters, leads down, and asks nobody for anything."""

import os
import shutil

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.repro import made_run
from tests.repro.made_run import HOSTILE, KNOWN

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
expect.set_options(timeout=20_000)  # on a machine that is busy with other tests
NARROW = {"width": 375, "height": 800}


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        reason = f"no Chromium here (none of {', '.join(BROWSERS)} on the PATH)"
        if os.environ.get("C3L_NEEDS_BROWSER"):
            pytest.fail(f"{reason}, and C3L_NEEDS_BROWSER is set")
        pytest.skip(reason)
    # As root, which containers often are, Chromium has no sandbox to offer.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=sandbox)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tiny_llava, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    file = folder / "report.html"
    file.write_text(made_run.make(folder, tiny_llava), encoding="utf-8")
    return file.as_uri()


@pytest.fixture
def opened(browser, address):
    """A function that opens the report; at the end nothing may have gone wrong in any page."""
    said, contexts = [], []

    def opened(**settings) -> Page:
        contexts.append(browser.new_context(**settings))
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (said.append(f"ran: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: said.append(f"request: {request.url}"))
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    own = [line for line in said if line == f"request: {address}"]
    others = [line for line in said if line not in own and not line.startswith("request: data:")]
    assert (len(own), others) == (len(contexts), [])


@pytest.fixture
def page(opened):
    return opened()


def rows(page: Page) -> list[str]:
    return page.locator("#table4-rows tbody tr:visible th").all_text_contents()


def cell(page: Page, row: int, column: str):
    return page.locator(f"[data-cell='table4/{row}/{column}']")


def test_it_opens_with_all_of_its_pictures(page):
    expect(page.locator("h1")).to_have_text("C³L, reproduced")
    expect(page.get_by_text("Without scripts")).to_have_count(0)
    widths = page.locator("img").evaluate_all("all => all.map(one => one.naturalWidth)")
    assert len(widths) > 6 and all(widths)


def test_a_header_sorts_up_and_down_and_back(page):
    given = rows(page)
    head = page.locator("#table4-rows th", has=page.get_by_role("button", name="SEED (pocket)"))
    for order, expected in (
        ("ascending", [given[0], given[1], given[2]]),
        ("descending", [given[1], given[0], given[2]]),  # what has no number stays last
        ("none", given),
    ):
        head.get_by_role("button").press("Enter")
        expect(head).to_have_attribute("aria-sort", order)
        assert rows(page) == expected


def test_rows_are_filtered_by_words(page):
    box = page.locator("[data-filter='table4-rows']")
    box.fill("FILTERING instr")
    assert rows(page) == [KNOWN]
    expect(page.locator("[data-count='table4-rows']")).to_have_text("1 of 3")
    box.fill("")
    assert len(rows(page)) == 3


def test_claims_are_filtered_by_verdict(page):
    claim = page.locator("article.claim")
    verdict = claim.get_attribute("data-verdict")
    page.get_by_label("Verdict").select_option("untestable")
    expect(claim).to_be_hidden()
    page.get_by_label("Verdict").select_option(verdict)
    expect(claim).to_be_visible()


def test_a_cell_leads_to_its_questions_by_keyboard_alone(page):
    button = cell(page, 0, "SEED")
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    expect(dialog.locator("h2")).to_be_focused()
    assert KNOWN in dialog.locator("h2").text_content()
    card = dialog.locator("#cell-list > li").nth(1)
    for words in ("Which option belongs to number 1?", "B. option 1 of 1", "right", "1001"):
        expect(card).to_contain_text(words)
    assert card.locator("img").evaluate("image => image.naturalWidth") > 0
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(button).to_be_focused()


def test_questions_are_filtered_and_runs_compared(page):
    cell(page, 0, "SEED").click()
    count, right = page.locator("#cell-count"), page.get_by_label("Result")
    expect(count).to_have_text("24 of 24")
    right.select_option("wrong")
    expect(count).to_have_text("14 of 24")
    page.locator("#cell-filters [name=run]").select_option("data seed 0, tuning seed 1")
    expect(count).to_have_text("13 of 24")
    page.get_by_label("Words").fill("NUMBER 23?")
    expect(count).to_have_text("1 of 24")
    page.get_by_label("Words").fill("nothing like it")
    expect(count).to_have_text("0 of 24")
    expect(page.locator("#cell-list > li")).to_have_count(0)


def test_what_was_said_is_shown_as_it_was_said(page):
    """And nothing of it runs: the fixture would have heard."""
    cell(page, 0, "POPE").click()
    answers = page.locator("#cell-list").text_content()
    assert all(hostile in answers for hostile in HOSTILE[:3])
    assert page.locator("#cell-list img").count() == page.locator("#cell-list > li").count()
    page.keyboard.press("Escape")
    assert HOSTILE[1] in rows(page)


def test_a_cell_leads_to_its_artefacts_and_what_they_were_made_from(page):
    cell(page, 0, "POPE").click()
    page.get_by_text("The artefacts behind it").click()
    for name in ("evaluation", "final", "scores", "filtered"):
        page.locator("#cell-artefacts summary", has_text=f": {name} ").first.click()
    path = page.locator("#cell-artefacts").get_by_text("store/filtered/")
    expect(path).to_be_visible()


def test_an_unscored_cell_says_why(page):
    cell(page, 2, "SEED").click()
    expect(page.get_by_role("dialog")).to_contain_text("nobody judged <script>")
    expect(page.locator("#cell-answers")).to_be_hidden()


def test_it_follows_the_system_and_the_button(opened):
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = (opened(color_scheme=scheme) for scheme in ("light", "dark"))
    white, black = light.evaluate(ground), dark.evaluate(ground)
    assert white == "rgb(255, 255, 255)" != black
    for page, name, expected in ((light, "Dark", black), (dark, "Light", white)):
        page.get_by_role("button", name=name, exact=True).click()
        assert page.evaluate(ground) == expected


def test_on_a_phone_the_page_does_not_scroll_sideways(opened):
    page = opened(viewport=NARROW)
    width = "document.documentElement.scrollWidth"
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate(width) <= NARROW["width"]
    # but the table does, within its frame
    frame = page.locator(".scroll", has=page.locator("#table4-rows"))
    assert frame.evaluate("one => one.scrollWidth > one.clientWidth")
    cell(page, 0, "POPE").click()
    assert page.get_by_role("dialog").evaluate("one => one.scrollWidth <= one.clientWidth")
    assert page.evaluate(width) <= NARROW["width"]


def test_without_scripts_the_tables_are_there(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert KNOWN in rows(page)
    expect(page.get_by_text("Without scripts")).to_be_visible()
    context.close()
