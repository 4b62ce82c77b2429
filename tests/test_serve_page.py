"""The page in a real Chromium: open, edit, strike, converse, reload; hostile texts; narrow and wide, light and dark."""

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sealed import seal
from served_job import copied

import r4r
from r4r.report.records import Run
from r4r.rows import REVIEWS, SUMMARIES
from r4r.serve.pipeline import Pipeline
from r4r.store.artifact import Artifact, write_table

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
uvicorn = pytest.importorskip("uvicorn", reason="pip install 'r4r[serve]'")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: install one, or name it in CHROMIUM"),
]
HOSTILE = (
    "<img src=x onerror='document.title=\"broken in\"'><script>document.title='broken in'</script> & \u202e</textarea>"
)
SUMMARY = "Positive Aspects: melody, <b>lyrics</b>\nNegative Aspects: drums\nUser Preference Elements: melody"
UNNAMED = """() => [...document.querySelectorAll('button, input, select, textarea, summary, a')]
    .filter(node => node.offsetParent)
    .filter(node => !node.labels?.length && !node.getAttribute('aria-label') && !node.textContent.trim())
    .map(node => node.outerHTML)"""
LEAST_CONTRAST = """() => {
    const part = value => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const light = text => {
        const [r, g, b] = text.match(/[\\d.]+/g).map(Number);
        return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    };
    const behind = node => {
        for (; node; node = node.parentElement) {
            const own = getComputedStyle(node).backgroundColor;
            if (!/, 0\\)$/.test(own)) return own;
        }
        return 'rgb(255, 255, 255)';
    };
    const contrast = node => {
        const two = [light(getComputedStyle(node).color), light(behind(node))].sort((a, b) => b - a);
        return (two[0] + 0.05) / (two[1] + 0.05);
    };
    const shown = [...document.querySelectorAll('main *')].filter(node => node.offsetParent && node.textContent.trim());
    return Math.min(...shown.map(contrast));
}"""
WIDTH = "document.querySelector('#bars .bar').style.width"  # of the first value's bar: its exact probability
SLOWEST = 60_000  # milliseconds, on a machine that does much else


@pytest.fixture(scope="module")
def pipeline(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """The pipeline of a run whose reviews and titles hold markup."""
    outputs = tmp_path_factory.mktemp("hostile") / "outputs"
    place = copied(finished, outputs)
    split = outputs / "artifacts/split" / finished.artifacts["split"]
    rows = Artifact(split).table(REVIEWS)
    write_table(split / "data.parquet", rows.assign(review=HOSTILE, title=HOSTILE), REVIEWS)
    seal(outputs / "artifacts", "split", finished.artifacts["split"])
    summaries = outputs / "artifacts/summaries" / finished.artifacts["summaries"]
    table = Artifact(summaries).table(SUMMARIES)
    write_table(summaries / "data.parquet", table.assign(summary=SUMMARY), SUMMARIES)
    seal(outputs / "artifacts", "summaries", finished.artifacts["summaries"])
    return r4r.load(place, artifacts=outputs / "artifacts")


@pytest.fixture(scope="module")
def server(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """(address, file of interactions) of a server that runs meanwhile."""
    from r4r.serve.app import create_app

    log = tmp_path_factory.mktemp("log") / "interactions.jsonl"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        app = create_app(pipeline, log, {"127.0.0.1"})
        running = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        while not running.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/", log
        running.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Any, server: tuple[str, Path]) -> Iterator[Any]:
    """A fresh visit; whatever the browser complains of fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.set_default_timeout(SLOWEST)
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    yield opened
    context.close()
    assert complaints == []


def first(page: Any, address: str) -> None:
    """Open the first review that the run predicted."""
    page.goto(address)
    page.wait_for_selector("#reviews option:nth-child(2)", state="attached")
    page.select_option("#reviews", index=1)
    page.wait_for_selector("#case:not([hidden])")


def until(page: Any, holds: str, given: Any = None) -> None:
    """Wait until an expression holds. The page's policy runs no string that it is handed, so it is asked from here."""
    end = time.monotonic() + SLOWEST / 1000
    while not page.evaluate(holds, given):
        assert time.monotonic() < end, holds
        time.sleep(0.05)


def said(page: Any, words: str) -> None:
    until(page, "words => document.getElementById('status').textContent.includes(words)", words)


def test_a_person_edits_strikes_adds_and_talks(page: Any, server: tuple[str, Path]) -> None:
    address, log = server
    first(page, address)
    assert page.evaluate("document.activeElement.id") == "case-title"
    own, place, width = page.input_value("#reason"), page.url, page.evaluate(WIDTH)
    told = page.inner_text("#mean")
    page.fill("#reason", "They care about melody. It is praised for its lyrics.")
    until(page, f"width => {WIDTH} !== width", width)
    assert page.locator("#bars .bar").count() == 10
    page.fill("#aspect", "guitars")
    page.press("#aspect", "Enter")
    until(page, "document.getElementById('reason').value.includes('guitars')")
    said(page, "Rating ")
    page.click("#keep")
    said(page, "Noted")
    page.click("#without")
    until(page, "document.getElementById('reason').value === ''")
    page.click("#again")
    until(page, "own => document.getElementById('reason').value === own", own)
    assert page.inner_text("#mean") == told
    page.fill("#words", "I cannot stand long guitar solos")
    page.press("#words", "Enter")
    page.wait_for_selector("#said button")
    assert "I cannot stand long guitar solos" in page.inner_text("#user-past")
    assert page.locator("#ifs tbody tr").count() >= 3
    page.click("#said button")
    page.wait_for_selector("#said button", state="detached")
    page.goto("about:blank")
    page.goto(place)
    page.wait_for_selector("#case:not([hidden])")
    assert (page.input_value("#reason"), page.inner_text("#mean")) == (own, told)
    kinds = [json.loads(line)["kind"] for line in log.read_text(encoding="utf-8").splitlines()]
    assert [kind for kind in kinds if kind != "edit"] == [
        *("explain", "add", "keep", "without", "again", "converse", "converse", "explain")
    ]
    assert "edit" in kinds


def test_an_aspect_is_struck_by_keyboard_and_the_number_moves(page: Any, server: tuple[str, Path]) -> None:
    page.goto(server[0])
    page.click("#new summary")
    page.fill("#new-title", "A new one")
    page.fill("#new-user", "5 | Another | I love the melody\n1 | A third | weak lyrics")
    page.press("#new-user", "Tab")
    page.fill("#new-item", "4 | fine")
    page.click("#new-form button")
    page.wait_for_selector("#case:not([hidden])")
    page.fill("#words", "melody")
    page.press("#words", "Enter")
    page.wait_for_selector("#said button")
    page.fill("#reason", "They care about melody and lyrics. It is fine.")
    page.fill("#aspect", "melody")
    page.press("#aspect", "Enter")
    until(page, "document.getElementById('reason').value.endsWith('about melody.')")
    assert page.inner_text("#mean").startswith(page.inner_text("#beside-reason").split(" ")[0])


def test_the_chips_of_aspects_change_the_reason_and_the_rating(page: Any, server: tuple[str, Path]) -> None:
    address, log = server
    first(page, address)
    own = page.evaluate(WIDTH)
    page.fill("#reason", "It is fine.")
    until(page, f"width => {WIDTH} !== width", own)
    plain, known = page.evaluate(WIDTH), page.locator("#ifs tbody tr").count()
    assert page.locator("#named button").count() == 0
    assert "<b>lyrics</b>" in page.locator("#other button").all_text_contents()
    page.click("#other button[aria-label^='Add melody: ']")
    until(page, f"width => {WIDTH} !== width", plain)
    assert page.input_value("#reason") == "It is fine. The user cares about melody."
    assert page.locator("#named button").all_text_contents() == ["melody"]
    assert page.locator("#ifs tbody tr").count() == known + 1
    page.click("#named button[aria-label='Strike melody']")
    until(page, f"width => {WIDTH} === width", plain)
    assert page.input_value("#reason") == "It is fine."
    assert "melody" in page.locator("#other button").all_text_contents()
    noted = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [(one["kind"], one["aspect"]) for one in noted[-2:]] == [("add", "melody"), ("strike", "melody")]


def test_markup_in_reviews_is_text(page: Any, server: tuple[str, Path]) -> None:
    first(page, server[0])
    assert HOSTILE in page.text_content("#user-past")
    assert page.text_content("#case-title") == HOSTILE
    page.fill("#words", HOSTILE)
    page.press("#words", "Enter")
    page.wait_for_selector("#said button")
    assert HOSTILE in page.text_content("#said")
    assert page.title() == "r4r: reasons and ratings"
    assert page.locator("main img, main script").count() == 0


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read(
    browser: Any, server: tuple[str, Path], width: int, scheme: str, tmp_path: Path
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(SLOWEST)
    first(page, server[0])
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(UNNAMED) == []
    assert page.evaluate(LEAST_CONTRAST) >= 4.5
    page.screenshot(path=tmp_path / f"{width}-{scheme}.png", full_page=True)
    context.close()
