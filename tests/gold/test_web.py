"""The page in a real browser, and the server against requests that are not the page's."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from asking import HOSTILE, SPECIAL, aasut, ids, page, write_recipe, written
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--window-size=1100,850")  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    yield driver
    assert [entry["message"] for entry in driver.get_log("browser") if "409" not in entry["message"]] == []
    driver.quit()


class Page:
    """What a person sees and does. Each deed waits until the page has answered it."""

    def __init__(self, driver: WebDriver, address: str) -> None:
        self.driver = driver
        driver.get(address)
        self.settle("")

    def settle(self, before: str) -> None:
        WebDriverWait(self.driver, 15, 0.02).until(
            lambda driver: self.count not in ("…", before) and not driver.execute_script("return busy")
        )

    @property
    def count(self) -> str:
        return self.driver.find_element(By.ID, "count").text

    @property
    def text(self) -> str:
        return self.driver.find_element(By.ID, "slots").text

    def press(self, *keys: str) -> None:
        before = self.count
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)
        self.settle(before)

    def click(self, name: str) -> None:
        before = self.count
        next(
            b for b in self.driver.find_elements(By.TAG_NAME, "button") if " ".join(b.text.split()).endswith(name)
        ).click()
        self.settle(before)

    def reload(self) -> None:
        self.driver.refresh()
        self.settle("")


def test_an_hour_of_answers_in_short(browser: WebDriver, tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    with page(tmp_path, "--rater", "ann", "--count", "12", "--double", "1") as address:
        seen = Page(browser, address)
        assert seen.count == "1 of 12"
        assert "secret" not in browser.page_source  # ids may give the answer away
        first = seen.text
        seen.click("positive")
        assert seen.count == "2 of 12"
        seen.press("1")
        assert [(line["answer"], line["by"], line["round"]) for line in written(tmp_path)] == [
            ("positive", "ann", "first"), ("negative", "ann", "first")]  # fmt: skip
        # Undo brings the row back; another answer then stands.
        third, before = seen.text, ids(written(tmp_path))
        seen.press("u")
        assert (seen.count, ids(written(tmp_path))) == ("2 of 12", [*before, before[-1]])
        assert seen.text not in (first, third)
        seen.press("2")
        assert seen.text == third
        # The page comes back where it was.
        seen.reload()
        assert (seen.count, seen.text) == ("3 of 12", third)
        assert browser.find_element(By.ID, "progress").get_attribute("value") == "2"
        # Skipped with the keyboard alone, for a given reason and for one's own; and found unusable with the mouse.
        seen.press("s", "1")
        seen.press("s", Keys.TAB, Keys.TAB, Keys.TAB, "too short" + Keys.ENTER)
        browser.find_element(By.ID, "skip").click()
        seen.click("the input is not usable")
        assert [line.get("skip") or line.get("unusable") for line in written(tmp_path)[-3:]] == [
            "I cannot tell", "too short", "the input is not usable"]  # fmt: skip
        texts = [seen.text]
        while len(texts) < 7:
            seen.press("2" if "good" in seen.text else "1")
            texts.append(seen.text)
        seen.press("1")
        shown = browser.find_element(By.ID, "finished").text
        assert seen.count == "12 of 12 done"
        assert "aasut gold recipe.yaml --rater NAME" in shown
        assert "aasut run recipe.yaml" in shown
    assert path.exists()


def test_hard_text_is_shown_as_text(browser: WebDriver, tmp_path: Path) -> None:
    write_recipe(tmp_path, rows=11)
    found: dict[str, tuple[str, str]] = {}
    with page(tmp_path, "--count", "11") as address:
        seen = Page(browser, address)
        while not seen.count.endswith("done"):
            for special in SPECIAL:
                if special[:9] in seen.text:
                    shown = browser.find_element(By.CSS_SELECTOR, "#slots .text")
                    content = str(shown.get_attribute("textContent"))
                    style = browser.execute_script("return getComputedStyle(arguments[0]).direction", shown)
                    assert content.startswith(special)
                    assert shown.find_elements(By.CSS_SELECTOR, "*") == []
                    found[special] = (style, content)
            seen.press("1")
    assert {special: style for special, (style, _) in found.items()} == {
        SPECIAL[0]: "ltr", SPECIAL[1]: "rtl", HOSTILE: "ltr"}  # fmt: skip
    assert browser.execute_script("return window.hacked") is None
    assert browser.find_elements(By.CSS_SELECTOR, "main script, main img") == []


def test_a_second_person_and_a_decision_and_then_the_run(browser: WebDriver, tmp_path: Path) -> None:
    write_recipe(tmp_path)
    count = ("--count", "16", "--double", "1")
    with page(tmp_path, "--rater", "ann", *count) as address:
        seen = Page(browser, address)
        while not seen.count.endswith("done"):
            seen.press("2" if "good" in seen.text else "1")
    ann = {line["id"]: line["answer"] for line in written(tmp_path)}
    with page(tmp_path, "--rater", "bob", *count) as address:
        seen = Page(browser, address)
        assert seen.count == "1 of 16"
        assert "ann" not in browser.page_source
        for number in range(16):
            assert "People said" not in browser.find_element(By.TAG_NAME, "main").text
            good = "good" in seen.text
            assert "kappa" not in browser.find_element(By.TAG_NAME, "header").text or number >= 10
            seen.press("2" if good and number > 3 else "1")
        assert "kappa" in browser.find_element(By.TAG_NAME, "header").text
        assert "--adjudicate" in browser.find_element(By.ID, "finished").text
    bob = {line["id"]: line["answer"] for line in written(tmp_path)[16:]}
    assert {line["round"] for line in written(tmp_path)[16:]} == {"second"}
    differ = {row_id for row_id in ann if ann[row_id] != bob[row_id]}
    assert set(bob) == set(ann)
    assert differ
    with page(tmp_path, "--rater", "eve", *count, "--adjudicate") as address:
        seen = Page(browser, address)
        assert seen.count == f"1 of {len(differ)}"
        shown = browser.find_element(By.ID, "said").text.splitlines()
        assert sorted(shown) == ["People said", "negative", "positive"]
        assert not {"ann", "bob"} & set(browser.find_element(By.TAG_NAME, "body").text.split())
        while not seen.count.endswith("done"):
            seen.click("positive")
    decided = written(tmp_path)[32:]
    assert {(line["id"], line["answer"], line["round"]) for line in decided} == {
        (row_id, "positive", "adjudicated") for row_id in differ
    }
    ran = aasut(tmp_path, "run", "recipe.yaml", "--json")
    assert ran.returncode == 0, ran.stderr
    facts = json.loads(ran.stdout)
    assert facts["conservation"]["gold"] == {"in": 16, "kept": 16, "dropped": {}, "failed": {}}
    assert facts["conservation"]["data"]["kept"] == 40
    counts = facts["data"]["counts"]
    assert counts["pool"] == 40 - 16
    assert counts["test"] + counts["calibrate"] + counts["tune"] == 16
    # The run's name is enough from here on, and its report says how often student and teacher differ.
    state = json.loads(aasut(tmp_path, "gold", "asked", "--status", "--json").stdout)
    assert (state["answers"], state["disagree"], state["answered_twice"]) == (16, 0, 16)
    assert state["splits"] == {name: counts[name] for name in sorted(counts) if name != "pool" and counts[name]}
    assert f"measured on {facts['verdict']['n']} answers" in state["plan"]


def test_many_answers_are_found_by_their_beginning(browser: WebDriver, tmp_path: Path) -> None:
    labels = ["able", "baker", "base", "u turn", *(f"label {number}" for number in range(9))]
    write_recipe(tmp_path, task={"labels": labels, "prompt": "{text}"})
    with page(tmp_path, "--count", "5") as address:
        seen = Page(browser, address)
        assert "[" not in browser.find_element(By.ID, "answers").text
        browser.switch_to.active_element.send_keys("ba")
        shown = [made.text for made in browser.find_elements(By.CSS_SELECTOR, "#answers button") if made.is_displayed()]
        assert shown == ["baker", "base"]
        browser.switch_to.active_element.send_keys(Keys.ENTER + "k")  # two begin so: Enter does nothing yet
        seen.press(Keys.ENTER)
        seen.press("able" + Keys.ENTER)
        seen.click("label 8")
    assert [line["answer"] for line in written(tmp_path)] == ["baker", "able", "label 8"]


def test_json_is_typed_checked_and_decided(browser: WebDriver, tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"place": {"type": "string"}, "n": {"type": "integer"}},
        "required": ["n"],
    }
    task = {"kind": "extract", "schema": schema, "prompt": "{text}"}
    write_recipe(tmp_path, task=task, student={"initialise": "pretrained", "model": {"address": "file:none"}})
    flags = ("--count", "2", "--double", "1")
    for rater, number in (("ann", 1), ("bob", 2)):
        with page(tmp_path, "--rater", rater, *flags) as address:
            seen = Page(browser, address)
            typed = browser.find_element(By.ID, "answer")
            assert json.loads(str(typed.get_attribute("value"))) == {"place": None, "n": None}
            assert browser.find_element(By.ID, "hint").text == "JSON: place (string), n (integer)"
            typed.send_keys(Keys.CONTROL + Keys.ENTER)
            WebDriverWait(browser, 10).until(lambda driver: driver.find_element(By.ID, "error").text)
            assert browser.find_element(By.ID, "error").text.startswith("This is no answer: place: None is not of type")
            typed.clear()
            typed.send_keys(f'{{"n": {number}, "place": "सुus"}}')  # u and s are letters here
            seen.press(Keys.CONTROL + Keys.ENTER)
            assert browser.find_element(By.ID, "error").text == ""
            browser.find_element(By.ID, "answer").clear()
            browser.find_element(By.ID, "answer").send_keys('{"n": 7}')
            seen.click("Ctrl Enter")
    assert [line["answer"] for line in written(tmp_path)] == [
        '{"place": "सुus", "n": 1}', '{"n": 7}', '{"place": "सुus", "n": 2}', '{"n": 7}']  # fmt: skip
    with page(tmp_path, "--rater", "eve", *flags, "--adjudicate") as address:
        seen = Page(browser, address)
        seen.click('{"place": "सुus", "n": 2}')
        assert seen.count == "1 of 1 done"
    assert written(tmp_path)[-1]["answer"] == '{"place": "सुus", "n": 2}'
    found = json.loads(aasut(tmp_path, "gold", "recipe.yaml", "--status", "--json", *flags).stdout)["agreement"]
    assert (found["measure"], found["value"]) == ("exact", 0.5)


def ask(address: str, method: str, path: str, body: str = "", **headers: str) -> tuple[int, Any, dict[str, str]]:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body.encode(), names)
        reply = connection.getresponse()
        return reply.status, reply.read().decode(), dict(reply.headers)
    finally:
        connection.close()


def test_only_the_page_reaches_the_server(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    with page(tmp_path, "--count", "5") as address:
        parts = urlsplit(address)
        origin, home = f"http://{parts.netloc}", parts.path
        mine = {"Origin": origin, "Content_Type": "application/json"}
        status, text, headers = ask(address, "GET", home)
        assert status == 200
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "http" not in text.replace("https://", "http://").split("<script")[1]  # nothing from elsewhere
        assert headers["cache-control"] == "no-store"
        assert ask(address, "GET", "/")[0] == 404
        assert ask(address, "GET", "/state")[0] == 404
        assert ask(address, "GET", home.rstrip("/") + "x/")[0] == 404
        item = json.loads(ask(address, "GET", home + "state")[1])["item"]
        assert set(item) == {"key", "slots", "said"}
        said = json.dumps({"key": item["key"], "answer": "positive"})
        strangers = [
            {"Host": "evil.example", **mine}, {"Host": f"localhost:{parts.port}", **mine},
            {"Origin": "http://evil.example", "Content_Type": "application/json"}, {"Content_Type": "application/json"},
            {"Origin": "null", "Content_Type": "application/json"},
        ]  # fmt: skip
        for headers in strangers:
            assert ask(address, "POST", home + "say", said, **headers)[0] == 403
        assert ask(address, "GET", home + "state", Host="evil.example")[0] == 403
        assert ask(address, "GET", home + "state", Origin="http://evil.example")[0] == 403
        plain = {"Origin": origin, "Content_Type": "text/plain"}
        assert ask(address, "POST", home + "say", said, **plain)[0] == 400
        for body in ("", "[]", "{", '{"key": 3, "answer": "x"}', '{"answer": "x"}', "[" * 100_000, " " * 1_100_000):
            assert ask(address, "POST", home + "say", body, **mine)[0] == 400
        assert written(tmp_path) == []
        assert ask(address, "POST", home + "say", said, **mine)[0] == 200
        # Sent twice, or for a row that is not asked, or no answer at all: refused, and the page is told why.
        for body in (said, json.dumps({"key": "x", "skip": "y"})):
            status, text, _ = ask(address, "POST", home + "say", body, **mine)
            assert (status, json.loads(text)["error"].split(".")[0]) == (409, "This row is not the one asked now")
        key = json.loads(text)["item"]["key"]
        for answer in ("neutral", "", "\ud800", "x" * 200_000):
            status, text, _ = ask(address, "POST", home + "say", json.dumps({"key": key, "answer": answer}), **mine)
            assert status == 409
            assert "positive" in json.loads(text)["error"] or "Unicode" in text or "characters long" in text
        assert len(written(tmp_path)) == 1
        assert ask(address, "POST", home + "say", '{"undo": ""}', **mine)[0] == 200
        assert ask(address, "POST", home + "say", '{"undo": ""}', **mine)[0] == 409
        assert ids(written(tmp_path))[0] == ids(written(tmp_path))[1]


def test_a_port_that_is_taken_is_one_clear_line(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    with page(tmp_path, "--count", "5") as address:
        ran = aasut(tmp_path, "gold", "recipe.yaml", "--web", "--port", str(urlsplit(address).port))
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith(f"aasut: Port {urlsplit(address).port} cannot be had: ")
    assert "There is no port 70000" in aasut(tmp_path, "gold", "recipe.yaml", "--web", "--port", "70000").stderr
