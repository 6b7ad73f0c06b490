"""The chat page in a real browser: against the real server, and against one that says anything.

BAIWEN_SCREENSHOT=1 pytest tests/serve/test_page.py -k screenshot     writes docs/chat.png
"""

import importlib.util
import json
import math
import os
import re
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from baiwen.serve.web import page as chat_page

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ROOT = Path(__file__).parents[2]
SOURCE = chat_page.FILE.read_text(encoding="utf-8")
READY = "() => document.querySelector('#model').value || document.querySelector('dialog[open]')"
SHORT = {"max_tokens": 12, "temperature": 0, "seed": 1}


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


scripted = _load("scripted")
words, call = scripted.words, scripted.call


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("needs chromium on the PATH")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


class Tab:
    """A page to be opened at one server after the other, each time with a storage of its own.

    `faults`: what it should not have done since then.
    """

    def __init__(self, browser: Any, **options: Any) -> None:
        self.context = browser.new_context(**{"locale": "en-GB", **options})
        self.context.set_default_timeout(30_000)
        self.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.context.add_init_script("window.hit = () => { throw new Error('hit') }")
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: self.faults.append(f"dialog: {dialog.message}"))
        self.page.on("request", lambda request: _judge(request.url, self.address, self.faults))
        self.page.on("console", lambda message: _listen(message, self.faults))
        self.session = self.context.new_cdp_session(self.page)
        self.session.send("Page.enable")
        self.address, self.faults, self.opened = "", list[str](), 0
        self.script: dict[str, str] | None = None

    def open(self, address: str, kept: dict[str, str]) -> Any:
        """The page at `address`, where the storage holds what is `kept` and nothing else."""
        self.leave()
        self.address, self.faults, self.opened = address, [], self.opened + 1
        told = {"source": STORED % (self.opened, self.opened, json.dumps(kept))}
        self.script = self.session.send("Page.addScriptToEvaluateOnNewDocument", told)
        self.page.goto(address)
        self.page.wait_for_function(READY)
        return self.page

    def leave(self) -> None:
        """To no server at all: nothing of a test goes on."""
        self.page.unroute_all()
        self.page.mouse.move(0, 0)
        if self.script:
            self.session.send("Page.removeScriptToEvaluateOnNewDocument", self.script)
            self.script = None
        self.page.goto("about:blank")


# Before the page's own scripts, once: a reload finds what the page itself has stored.
STORED = """if (sessionStorage.getItem("opened") !== "%d") {
  localStorage.clear();
  sessionStorage.clear();
  sessionStorage.setItem("opened", "%d");
  for (const [key, value] of Object.entries(%s)) localStorage.setItem(key, value);
}"""


@pytest.fixture(scope="module")
def tab(browser):
    """The tab of all tests that ask for nothing special: another one takes a second to start."""
    made = Tab(browser)
    yield made
    made.context.close()


@pytest.fixture
def open_page(browser, tab):
    """Opens the page; at the end no script but its own has run, nothing went to another origin."""
    used = []

    def opened(address: str, settings: dict[str, Any] | None = None, stored=(), **options: Any):
        used.append(Tab(browser, **options) if options else tab)
        kept = {"baiwen.settings": json.dumps(settings or {}), **dict(stored)}
        return used[-1].open(address, kept)

    yield opened
    for each in used:
        each.leave()
        if each is not tab:
            each.context.close()
    assert [fault for each in used for fault in each.faults] == []


def _judge(url: str, address: str, faults: list[str]) -> None:
    if not url.startswith((address.rstrip("/") + "/", "data:image/svg+xml", "blob:")):
        faults.append(f"left the origin: {url}")


def _listen(message: Any, faults: list[str]) -> None:
    if "Content Security Policy" in message.text or "Trusted" in message.text:
        faults.append(message.text)


@pytest.fixture
def script() -> Iterator[Any]:
    with scripted.Scripted([words("It "), words("**is**."), STOPPED]) as server:
        yield server


STOPPED = {"delta": {}, "finish_reason": "stop"}


def ask(page, question: str) -> None:
    page.fill("#draft", question)
    page.press("#draft", "Enter")
    done(page)


def done(page) -> None:
    page.wait_for_selector("#send:not([hidden])")


def last(page) -> str:
    return page.locator(".turn .body").last.inner_text()


def chat(page) -> dict[str, Any]:
    """The conversation as the browser keeps it."""
    key = "'baiwen.chat.' + location.hash.slice(1)"
    return json.loads(page.evaluate(f"localStorage.getItem({key})"))


# The real server.


def answered(served, messages: list[dict[str, str]], **fields: Any) -> dict[str, Any]:
    """What the server itself says, not streamed."""
    knobs = {"top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05, **SHORT, **fields}
    asked = {"messages": messages, **knobs}
    response = httpx.post(f"{served.url}/v1/chat/completions", json=asked, timeout=60)
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]


def test_an_answer_is_the_servers_to_the_letter_and_survives_a_reload(served, open_page):
    page = open_page(served.url, SHORT)
    ask(page, "Who are you?")
    first = answered(served, [{"role": "user", "content": "Who are you?"}])["message"]["content"]
    assert [node["content"] for node in chat(page)["nodes"]] == ["Who are you?", first]
    ask(page, "And now?")
    shown = page.locator("#turns").inner_text()
    page.reload()
    page.wait_for_selector(".turn")
    facts = re.compile(r"\d+ tokens · .*")
    assert (
        page.locator("#turns").inner_text().split()
        == facts.sub("", shown).replace("Probabilities", "").split()
    )
    assert page.locator("#history .title").inner_text() == "Who are you?"
    page.click("#new")
    assert page.locator(".turn").count() == 0
    page.click("#history .title")
    assert page.locator(".turn").count() == 4


STOP_AT_ONCE = """() => {
  const watch = () => document.querySelector(".assistant .body")?.textContent && stop.click();
  const stop = document.querySelector("#stop");
  new MutationObserver(watch).observe(document.querySelector("#turns"), {
    subtree: true, childList: true, characterData: true,
  });
}"""


def without_an_end(route: Any) -> None:
    """The same question, to be answered at length."""
    asked = {**route.request.post_data_json, "min_tokens": 450}
    route.continue_(post_data=json.dumps(asked))


def test_stop_ends_the_work_at_once_and_keeps_what_came(served, open_page, settled, monkeypatch):
    step = served.engine.step  # a moment longer: the browser may be slower than the model
    monkeypatch.setattr(served.engine, "step", lambda: time.sleep(0.02) or step())
    page = open_page(served.url, {"max_tokens": 450, "temperature": 1, "seed": 3, "stop": ""})
    page.route("**/v1/chat/completions", without_an_end)
    page.evaluate(STOP_AT_ONCE)
    ask(page, "Go on")
    page.wait_for_selector(".note")
    assert settled(2.0) == 0
    assert "Stopped." in last(page)
    assert chat(page)["nodes"][1]["finish"] == "stopped"


def test_another_answer_and_an_edited_question_are_branches_and_nothing_is_lost(served, open_page):
    page = open_page(served.url, {**SHORT, "temperature": 1, "seed": None})
    bodies: list[dict[str, Any]] = []
    page.on(
        "request",
        lambda request: bodies.append(request.post_data_json) if "chat" in request.url else None,
    )
    ask(page, "First")
    one = last(page)
    page.locator('.turn [data-act="again"]').last.click()
    done(page)
    assert page.locator(".variants").inner_text().split() == ["‹", "2", "of", "2", "›"]
    page.click('[data-act="before"]')
    assert last(page) == one
    ask(page, "Second")
    page.locator('.turn.user [data-act="edit"]').first.click(force=True)
    page.fill(".editor textarea", "Another first")
    page.click(".editor .solid")
    done(page)
    assert [body["messages"][-1]["content"] for body in bodies] == [
        "First",
        "First",
        "Second",
        "Another first",
    ]
    assert len(bodies[3]["messages"]) == 1
    assert page.locator(".turn").count() == 2
    page.locator('.turn.user [data-act="before"]').click()
    assert page.locator(".turn").count() == 4
    assert len(chat(page)["nodes"]) == 7


def test_an_edited_answer_stands_and_the_conversation_goes_on_from_it(script, open_page):
    page = open_page(script.address)
    ask(page, "First")
    page.click('.turn.assistant [data-act="edit"]')
    page.fill(".editor textarea", "Mine")
    page.click(".editor .solid")
    ask(page, "Second")
    assert [message["content"] for message in script.asked[1]["messages"]] == [
        "First",
        "Mine",
        "Second",
    ]


def test_the_meter_counts_warns_and_the_servers_refusal_is_shown_as_it_is(served, open_page):
    page = open_page(served.url, SHORT)
    meter, context = page.locator("#meter"), served.engine.context
    page.fill("#draft", "one two three")
    playwright.expect(meter).to_contain_text(f"of {context:,} tokens")
    page.fill("#draft", "x " * (context * 9 // 20))
    playwright.expect(meter).to_have_class("warn")
    playwright.expect(meter).to_contain_text("left")
    long = "x y " * (context // 2)
    page.fill("#draft", long)
    playwright.expect(meter).to_have_class("full")
    told = meter.inner_text()
    assert re.match(r"[\d,]+ tokens too many", told)
    ask(page, long)
    refusal = page.locator(".refusal").inner_text()
    body = {"messages": [{"role": "user", "content": long}], **SHORT}
    said = httpx.post(f"{served.url}/v1/chat/completions", json=body).json()["error"]["message"]
    assert said in refusal and "HTTP 400" in refusal


def test_a_token_shows_its_probability_and_the_others_on_hover(served, open_page):
    page = open_page(served.url, {**SHORT, "odds": True})
    ask(page, "Who?")
    choice = answered(served, [{"role": "user", "content": "Who?"}], logprobs=True, top_logprobs=5)
    tokens = choice["logprobs"]["content"]
    page.locator(".tokens span").first.hover()
    rows = page.locator("#odds div").all_inner_texts()
    others = tokens[0]["top_logprobs"]
    assert len(rows) >= len(others)
    share = 100 * math.exp(tokens[0]["logprob"])
    shown = page.locator("#odds .chosen").inner_text()
    assert (f"{share:.1f} %" if share >= 0.05 else "< 0.1 %") in shown
    page.locator(".tokens").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator(".tokens .now").count() == 1
    page.locator('.turn [data-act="odds"]').click()
    assert page.locator(".tokens").count() == 0


def test_a_guarded_server_opens_to_its_key(start, open_page):
    with start(api_key="a-good-key") as guarded:
        told = {"username": "", "password": "a-good-key"}
        page = open_page(guarded.url, SHORT, http_credentials=told)
        ask(page, "Who?")
        assert page.locator(".turn").count() == 2


# A server that says what a test wrote.


def test_an_answer_is_shown_as_it_comes_and_read_aloud_by_sentences(script, open_page):
    script.script = [words("One sentence. "), None, words("Two."), STOPPED]
    page = open_page(script.address)
    page.fill("#draft", "to be")
    page.press("#draft", "Enter")
    page.wait_for_function(
        "() => document.querySelector('.assistant .body').innerText.includes('One')"
    )
    assert page.is_visible("#stop") and not page.is_visible("#send")
    assert page.locator("#spoken").inner_text() == "Answering"
    script.go.set()
    done(page)
    assert last(page) == "One sentence. Two."
    assert page.locator("#spoken").inner_text() == "One sentence. Two. Answer complete"


def test_a_conversation_can_be_left_while_its_answer_comes(script, open_page):
    script.script = [words("begun"), None, words(" and done"), STOPPED]
    page = open_page(script.address)
    page.fill("#draft", "slow")
    page.press("#draft", "Enter")
    page.wait_for_function(
        "() => document.querySelector('.assistant .body').innerText.includes('begun')"
    )
    page.click("#new")
    script.go.set()
    page.wait_for_function(
        "() => Object.values(localStorage).some((text) => text.includes('and done'))"
    )
    page.click("#history .title")
    assert last(page) == "begun and done"


def test_a_conversation_that_is_deleted_in_the_middle_of_its_answer_stays_deleted(
    script, open_page
):
    script.script = [words("begun"), None, words(" and done"), STOPPED]
    page = open_page(script.address)
    page.fill("#draft", "slow")
    page.press("#draft", "Enter")
    page.wait_for_selector("text=begun")
    page.locator("#history .title").press("Delete")
    done(page)
    script.go.set()
    page.wait_for_timeout(100)
    assert page.locator("#history .title, .turn").count() == 0


def test_a_tool_call_is_a_card_and_its_result_goes_back(script, open_page):
    tools = [{"type": "function", "function": {"name": "weather"}}]
    script.script = [
        call("weather", '{"city": '),
        call("", '"Rome"}'),
        {"delta": {}, "finish_reason": "tool_calls"},
    ]
    page = open_page(script.address, {"tools": json.dumps(tools)})
    ask(page, "How warm is it?")
    assert page.locator(".tool b").inner_text() == "weather"
    assert json.loads(page.locator(".tool code").inner_text()) == {"city": "Rome"}
    script.script = [words("21 degrees."), STOPPED]
    page.fill(".tool textarea", "21")
    page.click(".give button")
    done(page)
    assert script.asked[0]["tools"] == tools
    made = {
        "id": "call0",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
    }
    assert script.asked[1]["messages"][1:] == [
        {"role": "assistant", "content": None, "tool_calls": [made]},
        {"role": "tool", "tool_call_id": "call0", "content": "21"},
    ]
    assert last(page) == "21 degrees."


def test_settings_reach_the_server_and_are_kept(script, open_page):
    page = open_page(script.address)
    page.keyboard.press("Control+,")
    page.fill("#system", "Be short.")
    page.fill("#knob-temperature", "1.25")
    page.fill("#knob-seed", "7")
    page.fill("#knob-top_p", "9")
    page.fill("#stop-texts", "END\n\nFIN")
    page.reload()
    page.wait_for_function("() => document.querySelector('#model').value")
    ask(page, "to be")
    (body,) = script.asked
    assert body["messages"][0] == {"role": "system", "content": "Be short."}
    wanted = {
        "temperature": 1.25,
        "seed": 7,
        "top_p": 0.8,
        "max_tokens": 1024,
        "stop": ["END", "FIN"],
    }
    assert {name: body[name] for name in wanted} == wanted
    assert "tools" not in body and "logprobs" not in body


def test_the_key_is_asked_for_kept_for_the_tab_alone_and_sent(script, open_page):
    script.key = "secret"
    page = open_page(script.address)
    page.fill("#key", "wrong")
    page.press("#key", "Enter")
    playwright.expect(page.locator("#door-told")).to_have_text("this key is not right")
    page.fill("#key", "secret")
    page.click("#key-save")
    page.wait_for_function("() => document.querySelector('#model').value === 'scripted'")
    ask(page, "to be")
    assert last(page) == "It is."
    assert "secret" not in page.evaluate("JSON.stringify(localStorage)")


BROKEN = """data: {"choices": [{"delta": {"content": "half"}}]}

data: {"error": {"message": "out of memory"}}

"""


def test_a_server_that_leaves_in_the_middle_is_told_and_what_came_stays(script, open_page):
    script.script = [words("half"), {"delta": {}}]
    page = open_page(script.address)
    page.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(
            headers={"Content-Type": "text/event-stream"},
            body=BROKEN,
        ),
    )
    ask(page, "to be")
    assert last(page).split("\n")[0] == "half"
    assert "broke off: out of memory" in last(page)


def test_a_server_that_comes_back_with_another_model_is_asked_for_that_one(script, open_page):
    page = open_page(script.address)
    script.name = "another"
    ask(page, "Well?")
    assert "404" in page.inner_text("#refused") and script.asked == []
    page.click("#refused button")
    playwright.expect(page.locator(".turn.assistant")).to_contain_text("It is.")
    assert [body["model"] for body in script.asked] == ["another"]


FULL = """Storage.prototype.setItem = () => { throw new DOMException("", "QuotaExceededError") }"""


def test_a_browser_without_room_shows_answers_all_the_same(script, open_page):
    page = open_page(script.address, viewport={"width": 1200, "height": 800})
    page.add_init_script(FULL)
    page.reload()
    page.wait_for_function(READY)
    for button in ("#theme", "#settings-toggle", "#language"):
        page.click(button)
    ask(page, "Well?")
    assert last(page) == "It is."
    playwright.expect(page.locator("#toast")).to_contain_text("没有空间")


CHOOSES = """new KeyboardEvent("keydown", {key: "Enter", keyCode: 229, bubbles: true})"""


def test_a_key_that_chooses_a_word_of_an_input_method_sends_nothing(script, open_page):
    page = open_page(script.address)
    page.fill("#draft", "你好")
    page.evaluate(f"document.querySelector('#draft').dispatchEvent({CHOOSES})")
    assert page.input_value("#draft") == "你好"
    page.press("#draft", "Enter")
    done(page)
    assert [message["content"] for message in script.asked[0]["messages"]] == ["你好"]


def test_export_gives_openais_messages_and_import_takes_them_back(script, open_page):
    page = open_page(script.address)
    ask(page, "to be")
    page.click("#more")
    with page.expect_download() as download:
        page.click("#export-json")
    exported = json.loads(Path(download.value.path()).read_text())
    assert download.value.suggested_filename == "to-be.json"
    told = [{"role": "user", "content": "to be"}, {"role": "assistant", "content": "It **is**."}]
    assert exported == {"title": "to be", "messages": told}
    page.click("#more")
    with page.expect_download() as download:
        page.click("#export-markdown")
    text = Path(download.value.path()).read_text()
    assert text == "# to be\n\n**You**\n\nto be\n\n**scripted**\n\nIt **is**.\n"
    page.click("#forget")
    assert page.locator("#history .title").count() == 0
    page.click("#toast button")
    assert page.locator("#history .title").count() == 1
    upload(page, {"messages": [*told, {"role": "user", "content": "or not"}]})
    assert page.locator(".turn").count() == 3
    assert page.locator("#history .title").count() == 2


def upload(page, value: Any) -> None:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    page.set_input_files(
        "#file", {"name": "chat.json", "mimeType": "application/json", "buffer": raw}
    )
    page.wait_for_selector("#toast:not([hidden])")


NO_CONVERSATION = [
    b"no json", [], {}, 7, None, {"messages": "x"}, {"nodes": [None], "at": 0},
    {"messages": [{"role": "wizard", "content": "x"}]},
    {"nodes": [{"parent": 3, "role": "user", "content": "x"}], "at": 0},
    {"nodes": [{"parent": -1, "role": "user", "content": "x"}], "at": 5},
]  # fmt: skip


def test_a_file_or_a_store_that_holds_no_conversation_is_turned_away(script, open_page):
    raws = [value if isinstance(value, bytes) else json.dumps(value) for value in NO_CONVERSATION]
    rows = [{"id": f"x{n}", "title": "x", "updated": n, "size": 1} for n in range(len(raws))]
    stored = {f"baiwen.chat.x{n}": str(raw) for n, raw in enumerate(raws)}
    page = open_page(
        script.address, stored={**stored, "baiwen.index": json.dumps([*rows, 7, {"id": 3}])}
    )
    for number, value in enumerate(NO_CONVERSATION):
        upload(page, value)
        assert page.locator("#toast").inner_text() == "This file holds no conversations"
        page.locator("#history .title").nth(number).click()
        assert page.locator(".turn").count() == 0
        page.evaluate("document.querySelector('#toast').hidden = true")
    ask(page, "to be")
    assert last(page) == "It is."


def test_the_history_is_bounded_and_the_oldest_goes_first(script, open_page):
    rows = [{"id": f"c{n}", "title": f"t{n}", "updated": n, "size": 20_000} for n in range(1, 231)]
    node = {"parent": -1, "role": "user", "content": "x" * 19_000}
    stored = {f"baiwen.chat.c{n}": json.dumps({"nodes": [node], "at": 0}) for n in range(1, 231)}
    page = open_page(script.address, stored={**stored, "baiwen.index": json.dumps(rows)})
    ask(page, "to be")
    kept = page.evaluate(
        "Object.keys(localStorage).filter((key) => key.startsWith('baiwen.chat.'))"
    )
    assert len(kept) == 200
    assert "baiwen.chat.c230" in kept and "baiwen.chat.c31" not in kept
    assert page.locator("#history .title").first.inner_text() == "to be"


# Keys, colours, languages, widths.


def focused(page) -> str:
    return page.evaluate(
        "(({ id, dataset, ariaLabel }) => id || dataset.act || ariaLabel)(document.activeElement)"
    )


def test_the_page_is_used_without_a_mouse(script, open_page):
    page = open_page(script.address)
    assert focused(page) == "draft"
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    page.keyboard.press("Enter")
    done(page)
    assert script.asked[0]["messages"][0]["content"] == "one\ntwo"
    page.keyboard.press("ArrowUp")
    page.keyboard.type("!")
    page.keyboard.press("Enter")
    done(page)
    assert script.asked[1]["messages"][0]["content"] == "one\ntwo!"
    page.keyboard.press("Escape")
    page.locator("#draft").blur()
    page.keyboard.press("k")
    assert focused(page) == "Answer 1"
    page.keyboard.press("r")
    done(page)
    assert len(script.asked) == 3
    page.keyboard.press("j")
    page.keyboard.press("[")
    page.keyboard.press("k")
    page.keyboard.press("c")
    assert page.evaluate("navigator.clipboard.readText()") in (
        "one\ntwo!",
        "one\ntwo",
        "It **is**.",
    )
    page.keyboard.press("?")
    assert page.is_visible("#help")
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    assert focused(page) == "draft"
    page.keyboard.press("Control+k")
    assert focused(page) == "search"
    page.keyboard.press("Control+Shift+O")
    assert page.locator(".turn").count() == 0


TABBED = """() => {
  const now = document.activeElement;
  now.dataset.seen = 1;
  return [now.id, now === document.body ? "left" : getComputedStyle(now).outlineStyle];
}"""
MISSED = """() => [...document.querySelectorAll("button, input, select, textarea")]
  .filter((node) => node.checkVisibility() && !node.disabled && node.tabIndex >= 0)
  .filter((node) => !node.dataset.seen).map((node) => node.outerHTML)"""


def test_every_control_is_reached_by_tab_in_the_order_of_the_page_and_shows_its_focus(
    script, open_page
):
    page = open_page(script.address)
    ask(page, "to be")
    page.fill("#draft", "x")
    page.focus(".skip")
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(TABBED))
    assert page.evaluate(MISSED) == []
    assert [name for name, outline in reached if outline == "none" and name != "draft"] == []
    order = ["new", "search", "import", "side-toggle", "more", "language", "theme"]
    order += ["settings-toggle", "draft", "send"]
    assert [name for name, _ in reached if name in order][: len(order)] == order


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_and_the_button(script, open_page, scheme):
    page = open_page(script.address, color_scheme=scheme)
    paper = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 29)"}

    def seen() -> str:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    assert seen() == paper[scheme]
    page.click("#theme")
    assert seen() == paper["light"]
    page.click("#theme")
    assert seen() == paper["dark"]
    page.reload()
    assert seen() == paper["dark"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(scheme):
    """Contrast of at least 4.5 (WCAG 2.2, 1.4.3) for every colour that words have."""
    pairs = dict(re.findall(r"--(\w+): light-dark\(([^)]+)\)", SOURCE))
    colour = {name: value.split(", ")[scheme == "dark"] for name, value in pairs.items()}
    for ink in ("ink", "soft", "accent", "good", "warn", "bad"):
        for ground in ("paper", "panel", "raised"):
            assert contrast(colour[ink], colour[ground]) >= 4.5, (ink, ground)


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_both_languages_are_whole():
    english, chinese = re.search(
        r"  en: \{(.*?)\n  \},\n  zh: \{(.*?)\n  \},", SOURCE, re.DOTALL
    ).groups()
    keys = [
        re.findall(r'(?:^|, |\n    )(\w+): "', f"\n    {part.strip()}")
        for part in (english, chinese)
    ]
    assert keys[0] == keys[1] and len(keys[0]) > 100
    named = set(re.findall(r'data-(?:say|label|hint)="(\w+)"', SOURCE))
    assert named <= set(keys[0])


WORDS = """() => document.body.innerText + [...document.querySelectorAll("*")]
  .flatMap((node) => [node.title, node.ariaLabel, node.placeholder]).join(" ")"""


def test_the_page_speaks_the_browsers_language_and_the_other_at_a_click(script, open_page):
    page = open_page(script.address, locale="zh-CN")
    script.script = [words("好。"), STOPPED]
    ask(page, "你好吗？")
    page.click("#settings-toggle")
    page.click("#more")
    assert page.evaluate("document.documentElement.lang") == "zh"
    shown = page.evaluate(WORDS)
    known = r"Baiwen|scripted|English|Top-[pk]|Min-p|OpenAI|API|JSON|Markdown|undefined|null|⌃⇧O|O"
    assert re.findall(r"[A-Za-z]{2,}", re.sub(known, "", shown)) == []
    page.click("#language")
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.locator("#settings h2").inner_text() == "Settings"
    assert page.locator('.turn.user [data-act="copy"]').inner_text() == "Copy"
    page.reload()
    assert page.get_attribute("#draft", "placeholder") == "Ask a question"


def test_a_phone_sees_one_column_and_nothing_wider(script, open_page):
    page = open_page(script.address, viewport={"width": 360, "height": 640}, has_touch=True)
    script.script = [
        words(
            "a" * 300
            + "\n\n| "
            + " | ".join(["column"] * 12)
            + " |\n|"
            + "---|" * 12
            + "\n\n```\n"
            + "code " * 80
        ),
        STOPPED,
    ]
    ask(page, "x" * 200)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("document.querySelector('#transcript').scrollWidth <= innerWidth")
    assert not page.is_visible("#side")
    page.click("#side-toggle")
    assert page.is_visible("#side")
    page.click("#history .title")
    assert not page.is_visible("#side")


# Text is text.

HOSTILE = (ROOT / "tests/serve/hostile.txt").read_text(encoding="utf-8").split("\n%\n")
FOREIGN = r"""() => {
  const bad = [];
  const tags = new RegExp("^(ARTICLE|DIV|P|BUTTON|SPAN|UL|OL|LI|CODE|PRE|FIGURE|FIGCAPTION|STRONG"
    + "|EM|DEL|BR|HR|A|TABLE|THEAD|TBODY|TR|T[HD]|BLOCKQUOTE|H[2-6]|SECTION|HEADER|B|LABEL|TEXTAREA"
    + "|svg|use|INPUT)$");
  const ours = "#turns *, #refused *, #title *, #odds *, #toast *, #history *";
  for (const node of document.querySelectorAll(ours)) {
    if (!tags.test(node.tagName)) bad.push(node.tagName);
    for (const { name, value } of node.attributes) {
      const safe = value.startsWith("--share") || node.tagName === "use";
      if (/^(on|src|style$|action|formaction|xlink)/i.test(name) && !safe) bad.push(name);
      if (name === "href" && !/^(https?:|mailto:)/.test(value) && !safe) bad.push(value);
    }
  }
  const never = "iframe, object, embed, img, base, meta[http-equiv], script ~ script, form ~ form";
  return [...bad, ...[...document.querySelectorAll(never)].map((node) => node.outerHTML)];
}"""
EVERY = "\n\n".join(HOSTILE)


def harmless(page) -> None:
    page.wait_for_timeout(60)  # an onerror would have come by then
    assert page.evaluate(FOREIGN) == []


def test_the_bank_is_large():
    assert len(HOSTILE) >= 40


def test_hostile_words_of_the_model_stay_words(script, open_page):
    pieces = [EVERY[at : at + 37] for at in range(0, len(EVERY), 37)]
    script.script = [*map(words, pieces), *(words(f"\n\n- {text}\n") for text in HOSTILE), STOPPED]
    page = open_page(script.address)
    ask(page, "to be")
    harmless(page)
    shown = page.locator(".assistant .body").inner_text()
    assert "<script>hit()</script>" in shown and "onerror=hit()" in shown


def test_hostile_tokens_and_probabilities_stay_words(script, open_page):
    def token(text: str) -> dict[str, Any]:
        one = {"token": text, "logprob": -0.5, "bytes": None}
        return {"content": [{**one, "top_logprobs": [{**one, "token": f"{text}!"}]}]}

    script.script = [*(words(text, logprobs=token(text)) for text in HOSTILE), STOPPED]
    page = open_page(script.address, {"odds": True})
    ask(page, "to be")
    for number in range(0, len(HOSTILE), 5):
        page.locator(".tokens span").nth(number).dispatch_event("pointerover", {"bubbles": True})
        assert page.locator("#odds div").count() == 2
    harmless(page)


def test_hostile_words_of_the_user_and_the_system_stay_words(script, open_page):
    page = open_page(script.address, {"system": EVERY, "stop": "\n".join(HOSTILE)})
    ask(page, EVERY)
    harmless(page)
    assert page.locator(".user .body").inner_text() == EVERY
    assert script.asked[0]["messages"][0]["content"] == EVERY
    page.locator('.turn.user [data-act="edit"]').click(force=True)
    assert page.input_value(".editor textarea") == EVERY
    page.keyboard.press("Escape")
    page.reload()
    page.wait_for_selector(".turn")
    harmless(page)


def test_hostile_tools_stay_words(script, open_page):
    calls = [
        call(text, json.dumps({text: text}) if n % 2 else text, n) for n, text in enumerate(HOSTILE)
    ]
    script.script = [*calls, {"delta": {}, "finish_reason": "tool_calls"}]
    page = open_page(
        script.address, {"tools": json.dumps([{"type": "function", "function": {"name": EVERY}}])}
    )
    ask(page, "to be")
    assert page.locator(".tool").count() == len(HOSTILE)
    for number, text in enumerate(HOSTILE):
        page.locator(".tool textarea").nth(number).fill(text)
    page.click(".give button")
    done(page)
    harmless(page)
    assert [
        message["content"] for message in script.asked[1]["messages"] if message["role"] == "tool"
    ] == HOSTILE


def test_hostile_titles_and_history_stay_words(script, open_page):
    rows = [
        {"id": f"x{n}{text}", "title": text, "updated": n, "size": 9}
        for n, text in enumerate(HOSTILE)
    ]
    node = {"parent": -1, "role": "user", "content": "x"}
    stored = {
        f"baiwen.chat.{row['id']}": json.dumps({"title": row["title"], "nodes": [node], "at": 0})
        for row in rows
    }
    page = open_page(script.address, stored={**stored, "baiwen.index": json.dumps(rows)})
    assert page.locator("#history .title").count() == len(HOSTILE)
    for number in range(0, len(HOSTILE), 6):
        page.locator("#history .title").nth(number).click()
    page.locator("#history .title").first.press("F2")
    page.keyboard.type("<img src=x onerror=hit()>")
    page.keyboard.press("Enter")
    harmless(page)
    assert page.locator("#title").inner_text()
    page.locator("#history .title").first.press("Delete")
    harmless(page)


def test_hostile_files_stay_words(script, open_page):
    said = [
        {"role": role, "content": text, "onclick": text, "innerHTML": text}
        for text in HOSTILE
        for role in ("user", "assistant")
    ]
    page = open_page(script.address)
    upload(page, [{"title": EVERY, "id": EVERY, "messages": said, "__proto__": {"hit": 1}}])
    assert page.locator(".turn").count() == 2 * len(HOSTILE)
    harmless(page)


def test_hostile_errors_and_model_names_stay_words(script, open_page):
    page = open_page(script.address)
    for refusal in ({"error": {"message": EVERY, "type": HOSTILE[0]}}, {"detail": EVERY}, EVERY):
        script.refusal = (400, refusal)
        ask(page, "to be")
        harmless(page)
        assert "<script>hit()</script>" in page.locator(".refusal").inner_text()


def test_links_lead_only_where_nothing_runs(script, open_page):
    text = """[a](javascript:hit()) [b](https://example.org/x_(y)) <mailto:a@b.c>
https://example.org/?q=1. [c](data:text/html,x) ![d](https://example.org/i.png)"""
    script.script = [words(text), STOPPED]
    page = open_page(script.address)
    ask(page, "to be")
    links = page.eval_on_selector_all(
        ".assistant a", "(all) => all.map((a) => [a.getAttribute('href'), a.target, a.rel])"
    )
    assert [link[0] for link in links] == [
        "https://example.org/x_(y)",
        "mailto:a@b.c",
        "https://example.org/?q=1",
        "https://example.org/i.png",
    ]
    assert all(link[1:] == ["_blank", "noopener noreferrer"] for link in links)


ATTEMPTS = {
    "document.body.innerHTML = '<img src=x onerror=hit()>'": "TrustedHTML",
    "document.body.insertAdjacentHTML('beforeend', '<b>x</b>')": "TrustedHTML",
    "document.write('<script>hit()</script>')": "TrustedHTML",
    "document.body.append(made('script', {text: 'hit()'}))": "TrustedScript",
    "document.body.setAttribute('onclick', 'hit()'); document.body.click()": "TrustedScript",
    "document.body.append(made('script', {src: 'https://example.org/x.js'}))": "TrustedScriptURL",
    "document.body.append(made('img', {src: 'https://example.org/x.png'}))": "img-src",
    "document.body.append(made('iframe', {src: 'https://example.org/'}))": "frame-src",
    "fetch('https://example.org').catch(() => {})": "connect-src",
    "document.head.append(made('style', {textContent: 'p { color: red }'}))": "style-src-elem",
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_the_policy_stops_what_the_page_would_never_do(tab, served, attempt):
    """Even a hole in the page itself would open onto nothing."""
    left = []
    page = tab.open(served.url, {})
    page.on("requestfinished", lambda request: left.append(request.url))
    told = page.evaluate(
        """(async () => {
          const told = [];
          window.hit = () => told.push("hit");
          const made = (tag, fields) => Object.assign(document.createElement(tag), fields);
          addEventListener("securitypolicyviolation", (event) => {
            told.push(event.effectiveDirective);
          });
          try { ATTEMPT } catch (error) { told.push(String(error)) }
          const rest = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
          for (let i = 0; i < 100 && !told.length; i++) await rest(20);
          await rest(50);
          return told.join();
        })()""".replace("ATTEMPT", attempt)
    )
    tab.leave()
    assert ATTEMPTS[attempt] in told and "hit" not in told
    assert [url for url in left if "example.org" in url] == []


# The text grows; what stands is not touched.

CODE = SOURCE.partition('<script type="module">')[2].partition("// ── Start")[0]
TEXTS = (Path(__file__).with_name("markdown.txt")).read_text(encoding="utf-8").split("\n%\n")


@pytest.fixture(scope="module")
def renderer(browser):
    """A page that has the page's Markdown class as a global."""
    context = browser.new_context(bypass_csp=True)
    page = context.new_page()
    page.route(
        "**/*",
        lambda route: route.fulfill(body=SOURCE.partition("<script")[0], content_type="text/html"),
    )
    page.goto("http://page.invalid/")
    page.evaluate("() => {" + CODE + "; window.Markdown = Markdown; window.Tokens = Tokens; }")
    page.evaluate("""() => { window.drawn = (pieces) => {
      const root = document.createElement("div"), writer = new Markdown(root);
      for (const piece of pieces) writer.push(piece);
      writer.finish();
      return root.innerHTML;
    } }""")
    yield page
    context.close()


@pytest.mark.parametrize("text", TEXTS)
def test_markdown_is_the_same_in_whatever_pieces_it_comes(renderer, text):
    whole = renderer.evaluate("(text) => drawn([text])", text)
    different = renderer.evaluate(
        """([text, whole]) => {
          let seed = 1;
          const chance = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
          const cut = (most) => {
            const out = [];
            for (let at = 0; at < text.length; at += out.at(-1).length)
              out.push(text.slice(at, at + 1 + Math.floor(chance() * most)));
            return out;
          };
          const ways = [[...text], ...Array.from({ length: 40 }, () => cut(12))];
          return ways.map(drawn).filter((made) => made !== whole)[0] ?? null;
        }""",
        [text, whole],
    )
    assert different is None


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a **b** *c* ~~d~~", "<p>a <strong>b</strong> <em>c</em> <del>d</del></p>"),
        ("`` a`b `` `c", "<p><code>a`b</code> `c</p>"),
        ("## T ##", "<h3>T</h3>"),
        ("- a\n  - b\n- c", "<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>"),
        ("3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'),
        ("> a\n> b", "<blockquote><p>a<br>b</p></blockquote>"),
        (
            "|a|b|\n|-|-|\n|1|",
            '<div class="table"><table><thead><tr><th>a</th><th>b</th></tr></thead>'
            "<tbody><tr><td>1</td><td></td></tr></tbody></table></div>",
        ),
        ("snake_case_word 2*3*4", "<p>snake_case_word 2<em>3</em>4</p>"),
        ("a\n\n---\n\nb", "<p>a</p><hr><p>b</p>"),
        ("<b>x</b> &amp;", "<p>&lt;b&gt;x&lt;/b&gt; &amp;amp;</p>"),
    ],
)  # fmt: skip
def test_markdown_means_what_it_means_everywhere(renderer, text, html):
    assert renderer.evaluate("(text) => drawn([text])", text) == html


LONG = 100_000


@pytest.mark.parametrize(
    "unit",
    [
        "*a ", "**a ", "`a ``b ", "[a](", "[[[[", "![", "<h", "https://a", "_a_b", "~~", "``", "\\",
        "> " * 40 + "a\n", "- " * 40 + "a\n", "| a ", "a|b\n-|-\n", "# ", " ", "\n", "- a\n",
        "1. a\n\n", "```\n", "a" * 50 + " ", "x`" * 9,
    ],
)  # fmt: skip
def test_no_text_is_slow_to_draw(renderer, unit):
    """100,000 characters of whatever is worst, in 500 pieces, in the time of a breath."""
    text = (unit * (LONG // len(unit) + 1))[:LONG]
    timed = partial(
        renderer.evaluate,
        """(text) => {
          const size = text.length / 500;
          const piece = (_, number) => text.slice(number * size, (number + 1) * size);
          const pieces = Array.from({ length: 500 }, piece);
          const start = performance.now();
          drawn(pieces);
          return performance.now() - start;
        }""",
        text,
    )
    assert any(timed() < 4000 for _ in range(3))  # a busy machine may be slow once


def test_a_long_answer_only_grows(script, open_page):
    part = (
        "Some words of an answer, and *more*.\n\n- a list\n- of two\n\n```py\nx = [1, 2]\n```\n\n"
    )
    script.script = [words(part * 20)] * 165 + [None, words("The end."), STOPPED]
    page = open_page(script.address)
    page.fill("#draft", "to be")
    page.press("#draft", "Enter")
    page.wait_for_function("() => document.querySelectorAll('.assistant figure').length >= 3300")
    page.evaluate("window.first = document.querySelector('.assistant figure')")
    script.go.set()
    done(page)
    body = "document.querySelector('.assistant .body')"
    assert page.evaluate(f"{body}.textContent.length") > 200_000
    assert page.evaluate("first.isConnected")
    started = time.monotonic()
    page.fill("#draft", "x")
    page.evaluate("document.querySelector('#transcript').scrollTop = 0")
    page.evaluate("new Promise(requestAnimationFrame)")
    assert time.monotonic() - started < 2


def test_a_character_of_several_tokens_is_shown_once_whole(renderer):
    made = renderer.evaluate(
        """() => {
          const root = document.createElement("div"), writer = new Tokens(root);
          const raw = [...new TextEncoder().encode("爱a")];
          writer.push(raw.map((byte) => ({ token: "?", bytes: [byte], logprob: -1 })));
          writer.push([{ token: "?", bytes: [0xe7], logprob: -1 }]);
          writer.finish();
          return [...writer.groups].map(([span, tokens]) => [span.textContent, tokens.length]);
        }"""
    )
    assert made == [["爱", 3], ["a", 1], ["\ufffd", 1]]


# The picture of the README.

PARAGRAPH = (
    "A tokenizer turns text into the numbers that a model reads. **Byte-pair encoding** starts "
    "from the 256 bytes and joins the pair that occurs most often, again and again, until the "
    "vocabulary is full; frequent words become one token, rare ones several, and none is left out."
)
BLOCKS = """One round counts the neighbours and joins the most frequent pair:

```python
def join(words: Counter[tuple[bytes, ...]]) -> tuple[bytes, bytes]:
    pairs = Counter()
    for word, count in words.items():
        for pair in pairwise(word):
            pairs[pair] += count
    return max(pairs, key=pairs.get)
```

| vocabulary | bytes, merges |
| --- | --- |
| 2,048 | 256 + 1,792 |
| 151,643 | 256 + 151,387 |"""
PICTURE = {
    "What is a tokenizer, in one paragraph?": PARAGRAPH,
    "Show me one round, as code.": BLOCKS,
}


def test_the_screenshot(script, open_page):
    if not os.environ.get("BAIWEN_SCREENSHOT"):
        pytest.skip("writes docs/chat.png where BAIWEN_SCREENSHOT is set")
    script.context, script.usage = 4096, False
    page = open_page(script.address, viewport={"width": 1180, "height": 970}, color_scheme="light")
    model = {"id": "a scripted model", "max_model_len": 4096}
    page.route("**/v1/models", lambda route: route.fulfill(json={"data": [model]}))
    page.reload()
    for question, answer in PICTURE.items():
        script.script = [*(words(part) for part in re.findall(r"\S+\s*", answer)), STOPPED]
        ask(page, question)
    page.wait_for_timeout(500)
    page.mouse.move(0, 0)
    raw = page.screenshot()
    assert len(raw) < 200_000
    (ROOT / "docs/chat.png").write_bytes(raw)
