import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from websockets.exceptions import InvalidStatus

from genie.core.config import UserError
from genie.serving.http.app import create_server
from genie.serving.http.auth import (
    COOKIE,
    AuthConfig,
    AuthMiddleware,
    http_error,
    is_loopback,
    is_wildcard,
)
from genie.serving.service import ServedWorld

TOKEN = "0123456789abcdef-secret"


@pytest.fixture
def refusals():
    return []


@pytest.fixture
def client(refusals):
    auth = AuthConfig(TOKEN, ("play.example.org",))
    app = AuthMiddleware(PlainTextResponse("welcome"), auth, refusals.append)
    return TestClient(app, base_url="http://play.example.org", follow_redirects=False)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer wrong",
        f"Basic {TOKEN}",
        f"Digest {TOKEN}",
        f"Bearer {TOKEN}x",
        TOKEN,
        "Bearer é",
    ],
)
def test_nothing_is_served_without_the_token(client, refusals, header):
    answer = client.get("/worlds", headers={"Authorization": header.encode("latin-1")})
    assert answer.status_code == 401
    assert "Authorization: Bearer" in answer.json()["detail"]
    wrong = header.startswith("Bearer ")
    assert ("The token is wrong" if wrong else "A token is needed") in answer.json()["detail"]
    assert answer.headers["www-authenticate"] == "Bearer"
    assert refusals == ["token"]


def test_the_token_opens_and_probes_need_none(client, refusals):
    assert client.get("/worlds", headers={"Authorization": f"Bearer {TOKEN}"}).text == "welcome"
    assert client.get("/ready").text == client.get("/health").text == "welcome"
    assert refusals == []


def test_a_page_opened_with_the_token_stores_it_as_a_cookie(client):
    answer = client.get("/", params={"game": "1", "token": TOKEN})
    assert (answer.status_code, answer.headers["location"]) == (303, "/?game=1")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie
    assert client.cookies[COOKIE] == TOKEN
    assert client.get("/").text == "welcome"
    client.cookies.clear()
    assert client.get("/", params={"token": "wrong"}).status_code == 401
    assert client.post("/", params={"token": TOKEN}).status_code == 401


def test_behind_tls_the_cookie_is_not_sent_in_the_clear(client):
    answer = client.get("https://play.example.org/", params={"token": TOKEN})
    assert "Secure" in answer.headers["set-cookie"]


def test_the_redirect_stays_on_this_server(client):
    answer = client.get("http://play.example.org//evil.example/", params={"token": TOKEN})
    assert answer.headers["location"] == "/evil.example/"


@pytest.mark.parametrize(
    "host", ["evil.example", "play.example.org.evil.example", "", "10.0.0.1", "[::1"]
)
def test_other_host_names_are_refused_even_with_the_token(client, refusals, host):
    headers = {"Host": host, "Authorization": f"Bearer {TOKEN}"}
    assert client.get("/health", headers=headers).status_code == 403
    assert refusals == ["host"]


def test_another_page_is_refused_even_with_the_cookie(client, refusals):
    client.get("/", params={"token": TOKEN})
    assert client.get("/", headers={"Origin": "http://evil.example"}).status_code == 403
    assert client.get("/", headers={"Origin": "http://play.example.org"}).status_code == 200
    assert refusals == ["origin"]


@pytest.mark.parametrize("token", ["short", "", "with spaces in the middle", "ümlaute-sind-keine"])
def test_an_invalid_token_is_refused(token):
    with pytest.raises(UserError, match="openssl rand"):
        AuthConfig(token)


def test_the_shortest_token_has_16_characters():
    assert AuthConfig("x" * 16).token == "x" * 16
    with pytest.raises(UserError, match="at least 16"):
        AuthConfig("x" * 15)


def test_an_error_may_say_when_to_come_back():
    assert http_error(503, "Full.", 7).headers["retry-after"] == "7"
    assert "retry-after" not in http_error(503, "Full.").headers


def test_loopback_addresses_are_recognised():
    assert all(map(is_loopback, ["localhost", "127.0.0.1", "127.9.9.9", "::1"]))
    assert not any(map(is_loopback, ["", "0.0.0.0", "example.org", "192.168.1.1", "::"]))
    assert all(map(is_wildcard, ["0.0.0.0", "::"]))
    assert not any(map(is_wildcard, ["", "localhost", "127.0.0.1", "::1", "192.168.1.1"]))


def test_the_websocket_requires_the_token(dot_world, dot_prompts, running, playing):
    app = create_server([ServedWorld("dots", dot_world, dot_prompts)], AuthConfig(TOKEN))
    with running(app) as address:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": f"{COOKIE}=wrong"}):
            with pytest.raises(InvalidStatus) as refused, playing(address, **headers):
                pass
            assert refused.value.response.status_code == 401
        for headers in ({"Authorization": f"Bearer {TOKEN}"}, {"Cookie": f"{COOKIE}={TOKEN}"}):
            with playing(address, **headers) as player:
                player.send("start", prompt=0)
                assert player.frame().step == 0
