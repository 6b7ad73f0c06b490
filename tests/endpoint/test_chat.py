"""The client against a scripted server: whatever goes wrong on a wire, and what it costs."""

import email.utils
import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from baiwen.endpoint import Endpoint, Refused, Reply, Stopped, connection, opened
from baiwen.endpoint.chat import read
from baiwen.endpoint.connection import asked_pause
from baiwen.errors import UserError

HI = [{"role": "user", "content": "Hi"}]
BUSY = 503, {"error": "busy"}


def endpoint(served, **knobs):
    return Endpoint(**{"url": served.url, "retries": 2, "pause": 0.01, **knobs})


def asked_once(served, **knobs):
    with opened(endpoint(served, **knobs)) as ask:
        return ask(HI, {})


def scripted(*answers):
    """A rule that gives these in turn, and then the last one for ever."""
    left = list(answers)
    return lambda body: left.pop(0) if len(left) > 1 else left[0]


def test_a_reply_has_its_text_and_what_the_server_counted(answering):
    with answering(lambda body: "two words") as served, opened(endpoint(served)) as ask:
        assert ask.name == "rule"
        assert ask(HI, {"temperature": 0.5, "seed": 3}) == Reply("two words", 10, 2)
    body = {"model": "rule", "messages": HI, "temperature": 0.5, "seed": 3}
    assert served.asked == [(body, None)]


def test_a_reply_that_was_cut_off_says_so():
    choice = {"message": {"content": "and then"}, "finish_reason": "length"}
    assert read(httpx.Response(200, json={"choices": [choice]})).cut


@pytest.mark.parametrize(
    "trouble",
    [
        BUSY,
        (429, {"error": "slow down"}, {"Retry-After": "0.01"}),
        (200, b"<html>a proxy's page</html>"),
        (200, {"choices": []}),
        (200, {"choices": [{"message": {"content": ["no", "text"]}}]}),
        (200, b'{"choices": [{"message": {"content": "cut of'),
        (200, b"[" * 100_000),
        (200, b"no gzip", {"Content-Encoding": "gzip"}),
        (200, b"half", {"Content-Length": "100"}),
        None,  # the connection is dropped
    ],
)
def test_trouble_that_passes_is_waited_out(answering, trouble):
    with answering(scripted(trouble, trouble, "yes")) as served:
        assert asked_once(served).text == "yes"
        assert len(served.asked) == 3


def test_trouble_that_stays_is_told_with_what_the_server_says(answering):
    told = r"is down: after 3 tries it says HTTP 503: .*busy"
    with answering(lambda body: BUSY) as served:
        with pytest.raises(UserError, match=told):
            asked_once(served)
        assert len(served.asked) == 3


def test_a_server_that_hangs_is_given_up(answering):
    hangs = answering(lambda body: time.sleep(0.3))
    with hangs as served, pytest.raises(UserError, match="ReadTimeout"):
        asked_once(served, timeout=0.1, retries=1)


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, Refused), (413, Refused), (422, Refused), (401, UserError), (404, UserError)],
)
def test_what_does_not_pass_is_told_at_once(answering, status, error):
    with answering(lambda body: (status, {"error": "too long"})) as served:
        with pytest.raises(error, match=f"HTTP {status}: .*long"):
            asked_once(served)
        assert len(served.asked) == 1


def test_a_redirect_is_not_followed_with_the_key(answering):
    with answering(lambda body: "not for you") as other:
        rule = scripted((307, {}, {"Location": f"{other.url}/v1/chat/completions"}))
        with answering(rule) as served, pytest.raises(UserError, match="HTTP 307"):
            asked_once(served)
        assert other.asked == []


def test_a_body_without_end_is_not_read_to_its_end(answering, monkeypatch):
    monkeypatch.setattr(connection, "LARGEST", 1000)
    whole = {"choices": [{"message": {"content": "yes"}}]}
    huge = 200, b" " * 200_000 + json.dumps(whole).encode()
    with answering(lambda _: huge) as served, pytest.raises(UserError, match="no answer in OpenAI"):
        asked_once(served)


@pytest.mark.parametrize("content", [None, "", "\ud83d"])
def test_an_answer_without_words_is_one(content):
    text = read(httpx.Response(200, content=json.dumps(completion(content)))).text
    assert text == ("?" if content else "")


def completion(content, **usage):
    message = {"role": "assistant", "content": content, "refusal": "No."}
    return {"choices": [{"message": message}], "usage": usage}


@pytest.mark.parametrize("count", [-1, True, 1.5, "9", 10**400, None])
def test_a_count_of_tokens_that_cannot_be_is_none(count):
    body = json.dumps(completion("Hi", prompt_tokens=count, completion_tokens=7)).encode()
    reply = read(httpx.Response(200, content=body))
    assert (reply.prompt_tokens, reply.completion_tokens) == (0, 7)
    assert type(reply.prompt_tokens) is int


json_values = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False) | some.text(),
    lambda inner: some.lists(inner) | some.dictionaries(some.text(), inner),
    max_leaves=10,
)
keys = some.sampled_from(["choices", "message", "content", "usage", "prompt_tokens", "0"])


@settings(max_examples=60)
@given(
    some.binary()
    | json_values.map(lambda value: json.dumps(value).encode())
    | some.recursive(
        json_values, lambda inner: some.lists(inner) | some.dictionaries(keys, inner), max_leaves=20
    ).map(lambda value: json.dumps(value).encode())
)
def test_no_body_makes_the_reader_raise(body):
    found = read(httpx.Response(200, content=body))
    assert found is None or (found.text.encode() is not None and found.prompt_tokens >= 0)


@given(some.text(), some.integers(0, 2**40), some.booleans())
def test_every_answer_in_openais_form_is_read(text, count, cut):
    body = completion(text, prompt_tokens=count, completion_tokens=count + 1)
    body["choices"][0]["finish_reason"] = "length" if cut else "stop"
    assert read(httpx.Response(200, json=body)) == Reply(text, count, count + 1, cut)


def response(asked, now=""):
    headers = {"retry-after": asked, "date": now}
    return httpx.Response(429, headers={name: value for name, value in headers.items() if value})


def test_a_pause_is_asked_for_in_seconds_or_as_a_date():
    now = time.time()
    dates = [email.utils.formatdate(now + later, usegmt=True) for later in (0, 90, -90)]
    assert asked_pause(response("7")) == 7 and asked_pause(response("0.5")) == 0.5
    assert asked_pause(response(dates[1], dates[0])) == 90
    assert asked_pause(response(dates[1])) == pytest.approx(90, abs=2)
    assert asked_pause(response(dates[2])) == 0 == asked_pause(response("soon"))
    assert asked_pause(response("")) == 0


@given(some.text(some.characters(max_codepoint=127, categories=["L", "N", "P", "Zs"])))
def test_no_pause_that_is_asked_for_makes_us_raise_or_go_back(asked):
    assert not asked_pause(response(asked.strip())) < 0


def test_all_wait_while_the_server_asks_one_of_them_to(answering):
    times = []

    def rule(body):
        times.append(time.monotonic())
        return (429, {}, {"Retry-After": "0.4"}) if len(times) == 1 else "yes"

    with answering(rule) as served, opened(endpoint(served)) as ask, ThreadPoolExecutor(4) as pool:
        first = pool.submit(ask, HI, {})
        while not times:
            time.sleep(0.01)
        time.sleep(0.05)  # until the answer is there
        others = [pool.submit(ask, HI, {}) for _ in range(3)]
        assert [one.result().text for one in (first, *others)] == ["yes"] * 4
    assert min(times[1:]) - times[0] >= 0.4


def test_a_pause_beyond_all_patience_ends_the_work(answering):
    rule = scripted((429, {"error": "quota"}, {"Retry-After": "3600"}))
    told = r"left alone for 3,600 seconds.*patience = 600.*quota"
    with answering(rule) as served, pytest.raises(UserError, match=told):
        asked_once(served)


def test_who_pauses_when_it_is_stopped_is_told(answering):
    with answering(lambda body: BUSY) as served, opened(endpoint(served, pause=60)) as ask:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(ask, HI, {})
            while not served.asked:
                time.sleep(0.01)
            ask.stop()
            assert isinstance(waiting.exception(10), Stopped)
        with pytest.raises(Stopped):
            ask(HI, {})


def test_servers_take_turns_and_one_that_fails_is_left_out(answering):
    with answering(lambda body: "one") as one, answering(lambda body: "two") as two:
        both = endpoint(one, also=(two.url,), model="same")
        with opened(both) as ask:
            assert sorted(ask(HI, {}).text for _ in range(6)) == ["one"] * 3 + ["two"] * 3
            two.rule = lambda body: BUSY
            assert [ask(HI, {}).text for _ in range(6)] == ["one"] * 6
    assert len(two.asked) == 4  # left out once it had failed


def test_a_server_that_was_left_out_is_asked_again_later(answering, monkeypatch):
    monkeypatch.setattr(connection, "ABSENT", 0.05)
    with (
        answering(lambda body: BUSY) as one,
        answering(lambda body: "two") as two,
        opened(endpoint(one, also=(two.url,), model="same")) as ask,
    ):
        assert ask(HI, {}).text == "two"
        one.rule = lambda body: "one"
        time.sleep(0.1)
        assert {ask(HI, {}).text for _ in range(2)} == {"one", "two"}


def test_where_all_servers_fail_the_one_that_is_due_first_is_tried(answering):
    with answering(scripted(BUSY, "one")) as one, answering(lambda body: BUSY) as two:
        assert asked_once(one, also=(two.url,), model="same").text == "one"


def test_the_key_is_read_from_the_environment_and_sent(answering, monkeypatch):
    with answering(lambda body: "yes") as served:
        knobs = endpoint(served, key_env="A_KEY")
        monkeypatch.delenv("A_KEY", raising=False)
        with pytest.raises(UserError, match="the environment has no A_KEY"), opened(knobs):
            pass
        for unsendable in ("secret\r", "sécret", "secret of ours"):
            monkeypatch.setenv("A_KEY", unsendable)
            with pytest.raises(UserError, match="which no API key does") as refused, opened(knobs):
                pass
            assert "cret" not in str(refused.value)
        monkeypatch.setenv("A_KEY", "secret-of-ours")
        asked_once(served, key_env="A_KEY")
        assert {key for _, key in served.asked} == {"Bearer secret-of-ours"}


ODD = ["http://me:secret@host/v1", "http://host/v1?key=secret", "http:///v1", "http://[::1"]


@pytest.mark.parametrize("url", ODD)
def test_a_url_with_a_key_or_without_a_host_is_refused(url):
    with pytest.raises(ValueError, match="url is"):
        Endpoint(url=url)
    with pytest.raises(ValueError, match="url is"):
        Endpoint(url="http://host", also=(url,))


def test_requests_keep_to_the_pace(answering):
    with (
        answering(lambda body: "yes") as served,
        opened(endpoint(served, model="m", requests_per_minute=1200)) as ask,
        ThreadPoolExecutor(4) as pool,
    ):
        begin = time.monotonic()
        list(pool.map(lambda _: ask(HI, {}), range(7)))
        assert time.monotonic() - begin >= 6 * 60 / 1200


def test_tokens_keep_to_the_pace_as_the_server_counts_them(answering):
    with (
        answering(lambda body: "yes") as served,  # 11 tokens by the server's count
        opened(endpoint(served, model="m", tokens_per_minute=6600)) as ask,
    ):
        begin = time.monotonic()
        for _ in range(4):
            ask(HI, {"max_tokens": 500})  # booked: 4.5 seconds of the pace, of which 0.1 are used
        assert 0.3 <= time.monotonic() - begin < 4.5


def test_who_waits_for_others_to_be_answered_does_not_give_up(answering):
    def slowly(body):
        time.sleep(0.1)
        return "yes"

    with (
        answering(slowly) as served,
        opened(endpoint(served, concurrency=1, timeout=0.25, retries=0)) as ask,
        ThreadPoolExecutor(5) as pool,
    ):
        assert [one.text for one in pool.map(lambda _: ask(HI, {}), range(5))] == ["yes"] * 5
