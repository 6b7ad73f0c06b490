"""Who is let in: keys, hosts, and the end of the server."""

import base64

import httpx
import pytest

from baiwen.errors import UserError
from baiwen.serve import server

KEY = "a-key-of-some-length"
LAST = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def locked(start):
    with start(api_key=KEY) as served, httpx.Client(base_url=served.url) as client:
        yield client


def test_the_key_guards_every_route_but_health(locked):
    paths = locked.get("/openapi.json", headers={"Authorization": f"Bearer {KEY}"}).json()["paths"]
    routes = [(method, path) for path, found in paths.items() for method in found]
    for method, path in [*routes, ("get", "/"), ("get", "/openapi.json"), ("get", "/nothing")]:
        response = locked.request(method, path.replace("{name}", "tiny"), json={})
        if path == "/health":
            assert response.status_code == 200
        else:
            assert response.status_code == 401, path
            assert response.json()["error"]["code"] == "invalid_api_key"
            assert response.headers["www-authenticate"].startswith("Basic")


@pytest.mark.parametrize(
    "given",
    [
        "",
        "Bearer",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        KEY,
        f"Token {KEY}",
        "Basic !",
        "Bearer é",
    ],
)
def test_other_keys_are_refused(locked, given):
    headers = {"Authorization": given.encode()}
    assert locked.get("/v1/models", headers=headers).status_code == 401


def test_the_key_opens_as_a_token_and_as_a_browser_sends_it(locked):
    basic = base64.b64encode(f"anyone:{KEY}".encode()).decode()
    for given in (f"Bearer {KEY}", f"bearer {KEY}", f"Basic {basic}"):
        assert locked.get("/v1/models", headers={"Authorization": given}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_without_a_key_other_names_of_this_machine_are_refused(http, host):
    assert http.get("/v1/models", headers={"Host": host}).status_code == 421
    assert http.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:9", "127.3.2.1"]
)
def test_names_of_this_machine_are_its_own(http, host):
    assert http.get("/v1/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.com"])
def test_another_address_wants_a_key(host):
    with pytest.raises(UserError, match="API key"):
        server.bind(host, 0, None)


def test_with_a_key_any_address_will_do():
    with server.bind("0.0.0.0", 0, KEY) as listener:
        assert server.url(listener).startswith("http://127.0.0.1:")


def test_a_weak_key_is_refused():
    for key in ("short", "with a blank in it", "schlüssel-mit-umlaut"):
        with pytest.raises(UserError, match="at least 8 characters"):
            server.bind("127.0.0.1", 0, key)


def test_a_port_that_is_taken_is_told_with_the_remedy(served):
    with pytest.raises(UserError, match="--port"):
        server.bind("127.0.0.1", served.address[1], None)
    with pytest.raises(UserError, match="--port"):
        server.bind("127.0.0.1", 99999, None)


def test_a_host_that_cannot_be_one_is_told():
    with pytest.raises(UserError, match="--host"):
        server.bind("a" * 70 + ".example", 0, KEY)


def test_of_two_servers_that_load_one_is_told_that_the_port_is_taken():
    with (
        server.bind("127.0.0.1", 0, None) as listener,
        pytest.raises(UserError, match="--port"),
    ):
        server.bind("127.0.0.1", listener.getsockname()[1], None)


def test_a_server_that_drains_takes_nothing(start):
    with start() as served, httpx.Client(base_url=served.url) as client:
        assert client.get("/health").status_code == 200
        served.gate.draining, served.gate.running = True, 1  # as if one were still answered
        for path in ("/health", "/v1/models"):
            response = client.get(path)
            assert response.status_code == 503 and response.headers["retry-after"] == "1"
        served.gate.running = 0


@pytest.mark.parametrize(
    "path", ["/", "/health", "/v1/models", "/metrics", "/nothing", "/v1/responses"]
)
def test_the_head_of_an_answer_is_that_of_the_answer(http, raw, path):
    asked, told = http.get(path), http.head(path)
    assert (told.status_code, told.content) == (asked.status_code, b"")
    assert told.headers["content-type"] == asked.headers["content-type"]
    both = f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2
    heads = raw(both.encode() + LAST)
    assert heads.count(b"HTTP/1.1 ") == 3  # no body came between them


def test_no_header_tells_what_runs_here(http):
    assert "server" not in http.get("/health").headers


def test_the_page_is_served_with_its_policy(http):
    response = http.get("/")
    assert response.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in response.headers["content-security-policy"]
