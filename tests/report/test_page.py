"""The page in a real browser: desktop, tablet and phone, light and dark, on paper; nothing fetched, nothing cut."""

from __future__ import annotations

import base64
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from facts import facts
from proof_facts import refused, without
from selenium import webdriver
from selenium.webdriver.remote.webdriver import WebDriver

from aasut.report import report

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update")  # fmt: skip
WIDTHS = (360, 390, 768, 1280)
PAGES = ("whole", "bare", "hard")
SMALLEST = 9.0  # px of a chart's text on the narrowest phone
# Colours of all texts and of what stands behind them, shades in charts included: [contrast, text] of each.
CONTRASTS = """
const rgb = text => { const found = text.match(/[\\d.]+/g).map(Number); return [...found.slice(0, 3), found[3] ?? 1]; };
const over = (top, alpha, below) => below.map((value, i) => alpha * top[i] + (1 - alpha) * value);
const light = colour => { const [r, g, b] = colour.map(v => v / 255).map(
  v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const contrast = (a, b) => {
  const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
  return (x + 0.05) / (y + 0.05);
};
const behind = element => {
  for (let at = element; at; at = at.parentElement) {
    const colour = rgb(getComputedStyle(at).backgroundColor);
    if (colour[3] === 1) return colour.slice(0, 3);
  }
  throw new Error("nothing stands behind " + element.textContent);
};
const shaded = text => {
  let colour = behind(text.closest("svg"));
  const box = text.getBoundingClientRect();
  for (const shape of text.closest("svg").querySelectorAll("path")) {
    const style = getComputedStyle(shape);
    if (style.fill === "none" || shape.closest("defs")) continue;
    const at = new DOMPoint(box.x + box.width / 2, box.y + box.height / 2).matrixTransform(
      shape.getScreenCTM().inverse());
    if (shape.isPointInFill(at)) {
      const alpha = Number(style.fillOpacity) * Number(style.opacity);
      colour = over(rgb(style.fill), alpha, colour);
    }
  }
  return colour;
};
return [...document.querySelectorAll("body *")].filter(element => [...element.childNodes].some(
  node => node.nodeType === 3 && node.data.trim())).map(element => {
    const style = getComputedStyle(element);
    const drawn = element.closest("svg");
    const [ink, ground] = drawn ? [style.fill, shaded(element)] : [style.color, behind(element)];
    return [contrast(rgb(ink).slice(0, 3), ground), element.textContent.trim().slice(0, 40)];
  });
"""
# What sticks out of the page, and what is hidden in a box that scrolls.
OUTSIDE = """
return [...document.querySelectorAll("body *:not(svg *), svg text")].filter(element => {
  const box = element.getBoundingClientRect();
  return box.width > 1 && (box.right > innerWidth + 0.5 || box.left < -0.5) && !element.closest(".scroll");
}).map(element => element.outerHTML.slice(0, 80));
"""
SCROLLED = """return [...document.querySelectorAll(".scroll")].filter(box => box.scrollWidth > box.clientWidth + 1)
  .map(box => box.innerText.slice(0, 40));"""
FONTS = """return [...document.querySelectorAll("svg text")].map(text => {
  const drawing = text.closest("svg"), scale = drawing.getBoundingClientRect().width / drawing.viewBox.baseVal.width;
  return [parseFloat(getComputedStyle(text).fontSize) * scale, text.textContent];
});"""
LEVELS = "return [...document.querySelectorAll('h1, h2, h3, h4')].map(head => Number(head.tagName[1]))"
BROKEN = "return [...document.querySelectorAll('a')].filter(link => !document.querySelector(link.hash)).length"
TALLEST = "return Math.max(...[...document.querySelectorAll('figure, #verdict')].map(part => part.offsetHeight))"


def hard() -> dict[str, Any]:
    """Facts with all that is long: names, answers, texts without a space, many models."""
    found = facts()
    answers = [f"a_rather_long_intent_number_{i}" for i in range(12)]
    matrix = [[40 if i == j else (i + j) % 5 for j in range(12)] for i in range(12)]
    for side in ("teacher", "student"):
        found[side] |= {"confusion": matrix, "name": "organisation/" + "ExtraordinarilyLongModelName" * 3}
    found["task"]["answers"] = answers
    found["student"]["fields"] = {f"field_{i}": 0.5 for i in range(4)}
    for name in ("q8_0", "q4_0"):
        found["baselines"][f"student_{name}"] = found["student"] | {"requests_per_s": 1_234_567.0}
    for item in found["disagreements"]:
        item |= {"text": "unbroken" * 60, "human": answers[0], "student": answers[1], "teacher": answers[2]}
    found["economics"]["break_even"][0]["against"] = "the_alternative_that_never_ends" * 3
    found["certificate"] = refused()
    found["risk_coverage"]["certified"] = None
    found["conservation"]["a stage with a long name"] = {
        "in": 9, "kept": 1, "dropped": {"a reason that is told at length, " * 4: 8}, "failed": {}}  # fmt: skip
    found["name"] = "a-name-" * 20
    return found


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    made = {"whole": facts(), "bare": without(facts()), "hard": hard()}
    folder = tmp_path_factory.mktemp("pages")
    for name, found in made.items():
        report.write(found, folder / name)
    return {name: (folder / name / "report.html").as_uri() for name in made}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


def show(browser: WebDriver, width: int, scheme: str = "light", media: str = "") -> None:
    """Lay the page that is open out at that width, in that scheme, for that medium."""
    screen = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


@pytest.mark.parametrize("name", PAGES)
def test_no_page_scrolls_sideways_and_charts_can_be_read(
    browser: WebDriver, addresses: dict[str, str], name: str
) -> None:
    show(browser, WIDTHS[0])
    browser.get(addresses[name])
    for width in WIDTHS:
        show(browser, width)
        assert browser.execute_script("return innerWidth") == width
        assert browser.execute_script("return document.scrollingElement.scrollWidth") <= width
        assert browser.execute_script(OUTSIDE) == []
        fonts = browser.execute_script(FONTS)
        assert len(fonts) > 40
        assert [font for font in fonts if font[0] < SMALLEST] == []
        if name != "hard":
            assert browser.execute_script(SCROLLED) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_all_text_stands_out_from_what_is_behind_it(
    browser: WebDriver, addresses: dict[str, str], name: str, scheme: str
) -> None:
    show(browser, 1280, scheme)
    browser.get(addresses[name])
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}[scheme]
    found = browser.execute_script(CONTRASTS)
    assert len(found) > 200
    assert [seen for seen in found if seen[0] < 4.5] == []  # WCAG 2.2, 1.4.3, level AA


def test_the_payer_can_stop_after_the_first_screen(browser: WebDriver, addresses: dict[str, str]) -> None:
    browser.get(addresses["whole"])
    for width, height in ((1280, 720), (390, 844)):
        show(browser, width)
        assert (
            browser.execute_script("return document.querySelector('#verdict').getBoundingClientRect().bottom") < height
        )


def test_headings_tables_and_links_are_in_order(browser: WebDriver, addresses: dict[str, str]) -> None:
    for name in PAGES:
        browser.get(addresses[name])
        levels = browser.execute_script(LEVELS)
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))
        for wrong in ("th:not([scope])", "svg:not([aria-label]), svg:not([role=img])"):
            assert browser.execute_script("return document.querySelectorAll(arguments[0]).length", wrong) == 0
        assert browser.execute_script(BROKEN) == 0


def test_on_paper_it_is_whole_and_light(browser: WebDriver, addresses: dict[str, str]) -> None:
    browser.get(addresses["whole"])
    show(browser, 695, "dark", "print")  # the width of a sheet of A4 within its margins
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.execute_script(SCROLLED) == []
    assert browser.execute_script(OUTSIDE) == []
    heads = browser.execute_script("return document.querySelector('#results thead').getBoundingClientRect().height")
    assert heads > 10  # a table, not the phone's cards
    assert [seen for seen in browser.execute_script(CONTRASTS) if seen[0] < 4.5] == []
    assert browser.execute_script(TALLEST) < 500  # so that none has to be cut at the end of a sheet
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    sheet = {"paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": False}
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", sheet)["data"])
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 9


def test_nothing_is_fetched_and_nothing_complains(browser: WebDriver, addresses: dict[str, str]) -> None:
    for name in PAGES:
        browser.get(addresses[name])
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [seen["params"] for seen in events if seen["method"] == "Network.requestWillBeSent"]  # in all tests so far
    ours = {seen["request"]["url"] for seen in asked if seen["documentURL"] in addresses.values()}
    assert ours == set(addresses.values())
    assert browser.get_log("browser") == []
