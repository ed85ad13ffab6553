"""Rule: in a real browser the page shows who made each token and what both devices do, and text is never markup.

Needs Debian's chromium and chromium-driver (`apt-get install chromium chromium-driver`); skipped without them. The
pictures in `docs/images` are made by `make screenshots`, which is this test with AMUSD_MP_SCREENSHOTS set.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

DEADLINE = 60.0
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--window-size=1280,1320"),
)
HOSTILE = """<img src=x onerror="document.title='pwned'"><script>document.title='pwned'</script>&lt;b&gt;"""

TRACE = {
    "traceEvents": [
        {"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "draft"}},
        {"ph": "M", "name": "process_name", "pid": 2, "args": {"name": "verify"}},
        *({"ph": "X", "name": "guess", "pid": 1, "tid": 1, "ts": 1000 * i, "dur": 900} for i in range(20)),
        *({"ph": "X", "name": "verify", "pid": 2, "tid": 1, "ts": 5000 * i + 2000, "dur": 4500} for i in range(4)),
        {"ph": "s", "id": 1, "cat": "window", "name": "window", "pid": 1, "tid": 1, "ts": 1900},
        {"ph": "f", "id": 1, "cat": "window", "name": "window", "pid": 2, "tid": 1, "ts": 2000},
    ]
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed (apt-get install chromium chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.fixture
def until(browser: Any) -> Callable[[str], Any]:
    """Wait until an expression of the page's script is true, and return it."""
    from selenium.webdriver.support.ui import WebDriverWait

    def wait(expression: str) -> Any:
        return WebDriverWait(browser, DEADLINE, 0.02).until(lambda b: b.execute_script(f"return {expression}"))

    return wait


@pytest.fixture
def picture(browser: Any, tmp_path: Path) -> Callable[[str], None]:
    """Save what the browser shows under a name."""
    folder = Path(os.environ.get("AMUSD_MP_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)

    def save(name: str) -> None:
        assert browser.save_screenshot(str(folder / f"{name}.png"))

    return save


def test_a_prompt_is_typed_and_the_text_and_both_lanes_move(
    server: Any, browser: Any, until: Callable[[str], Any], picture: Callable[[str], None]
) -> None:
    browser.get(server.http)
    until("document.querySelector('#up').dataset.up === 'true'")
    typed = 'def join_words(words, separator=" "):\n    """ Join the words of a list into one string.\n'
    box = browser.find_element("id", "prompt")
    box.clear()
    box.send_keys(typed)
    for _ in range(5):  # how many guesses come in time is the machine's affair, so a run may show few of them
        browser.find_element("id", "run").click()
        until("document.querySelector('#out .drafted, #out .accepted') !== null || !aborter")
        picture("page-writing")
        until("!aborter && document.querySelector('#same').textContent")
        shown = browser.execute_script(
            "return [...document.querySelectorAll('#out .t')].map(s => [s.className.slice(2), s.textContent])"
        )
        if {"accepted", "rejected"} <= {kind for kind, _ in shown}:
            break
    assert browser.execute_script("return document.querySelector('#error').textContent") == ""
    assert "the same text" in browser.find_element("id", "same").text
    kinds = {kind for kind, _ in shown}
    assert {"accepted", "rejected"} <= kinds
    assert kinds & {"recovered", "bonus"}
    decided = "".join(text for kind, text in shown if kind != "rejected")
    assert decided == browser.execute_script("return run.tokens.map(t => t.t).join('')") != ""
    colours = browser.execute_script(
        "return ['accepted', 'rejected'].map(k => getComputedStyle(document.querySelector('#out .' + k)).color)"
    )
    assert len(set(colours)) == 2
    steps = browser.execute_script("return {...document.querySelector('#lanes').dataset}")
    assert int(steps["verifySteps"]) > 5
    assert int(steps["draftSteps"]) > 5
    until("view.hold !== null")
    picture("page")
    arrows = browser.execute_script("return lanesOfLive(live.begin, live.end).arrows.map(a => a.kind)")
    assert {"window", "back"} <= set(arrows)


def test_it_is_replayed_in_slow_motion(
    browser: Any, until: Callable[[str], Any], picture: Callable[[str], None]
) -> None:
    whole = browser.execute_script("return document.querySelector('#out').textContent")
    browser.execute_script("document.querySelector('#slow').value = '20'")
    browser.find_element("id", "theme").click()
    browser.find_element("id", "replay").click()
    until("view.replay && view.replay.token > 8 && document.querySelector('#out .drafted')")
    picture("page-slow-motion")
    assert len(browser.execute_script("return document.querySelector('#out').textContent")) < len(whole)
    browser.find_element("id", "replay").click()
    assert browser.execute_script("return document.querySelector('#out').textContent") == whole


def test_a_recorded_trace_is_opened(
    browser: Any, until: Callable[[str], Any], picture: Callable[[str], None], tmp_path: Path
) -> None:
    (tmp_path / "trace.json").write_text(json.dumps(TRACE))
    (tmp_path / "nonsense.json").write_text("[]")
    file = browser.find_element("id", "file")
    file.send_keys(str(tmp_path / "trace.json"))
    until("document.querySelector('#lanes').dataset.trace === '24'")
    picture("page-trace")
    file.send_keys(str(tmp_path / "nonsense.json"))
    until("document.querySelector('#error').textContent.includes('is no trace')")
    browser.find_element("id", "back").click()
    assert browser.execute_script("return view.trace") is None


def test_what_a_prompt_or_a_model_says_is_text(server: Any, browser: Any, until: Callable[[str], Any]) -> None:
    browser.get(server.http)
    until("document.querySelector('#up').dataset.up === 'true'")
    title = browser.title
    box = browser.find_element("id", "prompt")
    box.clear()
    box.send_keys(HOSTILE)
    browser.execute_script(
        "document.querySelector('#max').value = 8; document.querySelector('#compare').checked = false"
    )
    browser.find_element("id", "run").click()
    until("!aborter && run && run.tokens.length > 0")
    browser.execute_script(
        "run.page.decide([{t: arguments[0], o: 'accepted', x: arguments[0]}]);"
        "run.page.guess(run.page.base + run.page.tokens, arguments[0]);",
        HOSTILE,
    )
    text = browser.execute_script("return document.querySelector('#out').textContent")
    assert text.count(HOSTILE) == 4  # as prompt, rejected, accepted and drafted
    assert browser.execute_script("return document.querySelectorAll('#out img, #out script, #out b').length") == 0
    assert browser.title == title
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not severe
