"""What an answer carries, what is refused before a route sees it, and that no request breaks the console."""

from __future__ import annotations

import re
from urllib.parse import quote, urlencode

import pytest
from console.consoles import Browser, House, Reply, title
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from turnkey.console.app import COOKIE

ROUTES = (
    "/",
    "/state",
    "/status",
    "/sign-in",
    "/unlock",
    "/sign-out",
    "/number",
    "/shoot",
    "/note",
    "/event",
    "/look",
    "/lock",
    "/live",
)
FORMS = ROUTES[3:12]
STATIC = ("console.css", "page.js", "camera.js", "keypad.js", "scanner.js", "icon.svg")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def post(browser: Browser, path: str, form: dict[str, str], **headers: str) -> Reply:
    own = {"Origin": f"http://{browser.host}"}
    return browser.send("POST", path, urlencode(form).encode(), **(FORM | own | headers))


def test_every_answer_forbids_what_the_console_does_not_need(house: House) -> None:
    browser = house.browser()
    answers = [browser.get(path) for path in (*ROUTES, "/nowhere", *(f"/static/{name}" for name in STATIC))]
    answers.append(post(browser, "/sign-in", {}, Origin="http://elsewhere.example"))
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert "http" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert "camera=()" in answer.headers["permissions-policy"]
        assert "server" not in answer.headers


def test_pages_load_nothing_from_elsewhere_and_hold_no_script_or_style(house: House) -> None:
    browser = house.browser()
    pages = [browser.get(), browser.sign_in(), browser.post("/number", number="B-1"), browser.get("/status")]
    for page in pages:
        assert not re.search(r"<style|style=|<script(?![^>]*src=)|\son[a-z]+=|javascript:", page.body)
        assert all(link.startswith("/static/") for link in re.findall(r'src="([^"]+)"', page.body))
        assert all(link.startswith(("/", "?", "#")) for link in re.findall(r'href="([^"]+)"', page.body))


def test_without_a_session_there_is_sign_in_status_and_static_files_only(house: House) -> None:
    browser = house.browser()
    assert title(browser.get()) == "Sign in"
    assert title(browser.get("/status")) == "Device status"
    assert browser.get("/state").status == 200
    for name in STATIC:
        assert browser.get(f"/static/{name}").status == 200
    for path in FORMS[1:]:
        assert post(browser, path, {"csrf": "", "number": "B-1", "pin": "271828"}).status == 403
    assert browser.get("/live").status in (404, 405, 426)
    assert browser.get("/static/../app.py").status == 404
    assert browser.get("/static/%2e%2e/app.py").status == 404


def test_the_session_is_the_only_cookie_and_no_script_or_foreign_page_gets_it(house: House) -> None:
    browser = house.browser()
    browser.get()
    assert browser.cookie == ""
    answer = post(browser, "/sign-in", {"badge": "1001", "pin": "271828"})
    given = answer.headers["set-cookie"]
    assert given.startswith(f"{COOKIE}=")
    assert "HttpOnly" in given
    assert "SameSite=strict" in given


def test_a_form_without_its_token_or_from_elsewhere_changes_nothing(house: House) -> None:
    browser = house.browser()
    browser.sign_in()
    token = re.search(r'name="csrf" value="([^"]+)"', browser.get().body)
    assert token is not None
    good = {"csrf": token[1], "number": "B-1"}
    assert post(browser, "/number", good | {"csrf": "x" * 43}).status == 403
    assert post(browser, "/number", {"number": "B-1"}).status == 403
    for origin in ("http://elsewhere.example", "null", "", f"https://{browser.host}"):
        assert post(browser, "/number", good, Origin=origin).status == 403
    assert browser.send("POST", "/number", urlencode(good).encode(), **FORM).status == 403, "no origin at all"
    assert title(browser.get()) == "New booking"


def test_a_name_that_was_pointed_here_is_refused(house: House) -> None:
    browser = house.browser()
    assert browser.send("GET", "/", Host="evil.example").status == 421
    assert browser.send("GET", "/", Host=f"localhost:{house.port}").status == 200


def test_too_large_or_strange_bodies_are_refused(house: House) -> None:
    browser = house.browser()
    own = {"Origin": f"http://{browser.host}"}
    assert browser.send("POST", "/sign-in", b"badge=" + b"1" * 5000, **FORM, **own).status == 413
    assert browser.send("POST", "/sign-in", b"{}", **own, **{"Content-Type": "application/json"}).status == 415
    assert browser.send("POST", "/sign-in", b"badge=1&badge=2", **FORM, **own).status == 400
    assert browser.send("POST", "/sign-in", b"badge=%ff%fe&pin=1", **FORM, **own).status == 400
    assert browser.send("POST", "/sign-in", b"&".join(b"a%d=1" % n for n in range(99)), **FORM, **own).status == 400


texts = st.one_of(st.text(max_size=60), st.sampled_from(["B-1", "1001", "271828", "retake", "next", "es", "night"]))
names = st.one_of(st.sampled_from(["csrf", "number", "reason", "event", "badge", "pin", "language", "theme"]), texts)


@pytest.mark.parametrize("signed_in", [False, True], ids=["nobody", "an-officer"])
def test_no_request_breaks_the_console(house: House, signed_in: bool) -> None:
    browser = house.browser()
    if signed_in:
        browser.sign_in()
    cookie = browser.cookie
    token = re.search(r'name="csrf" value="([^"]+)"', browser.get().body)

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(
        method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"]),
        path=st.one_of(st.sampled_from([one for one in ROUTES if one not in ("/sign-out", "/lock")]), texts),
        query=st.dictionaries(names, texts, max_size=3),
        form=st.dictionaries(names, texts, max_size=5),
        raw=st.one_of(st.none(), st.binary(max_size=200)),
        own=st.booleans(),
        extra=st.dictionaries(
            st.sampled_from(["Cookie", "Content-Type", "Upgrade", "Accept-Language", "Range", "If-None-Match"]),
            st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30),
            max_size=2,
        ),
    )
    def try_one(
        method: str,
        path: str,
        query: dict[str, str],
        form: dict[str, str],
        raw: bytes | None,
        own: bool,
        extra: dict[str, str],
    ) -> None:
        browser.cookie = cookie
        fields = form | ({"csrf": token[1]} if own and token else {})
        body = raw if raw is not None else urlencode(fields, errors="surrogatepass").encode()
        where = "/" + quote(path.lstrip("/"), errors="surrogatepass") + "?" + urlencode(query, errors="surrogatepass")
        answer = browser.send(method, where, body, **(FORM | {"Origin": f"http://{browser.host}"} | extra))
        assert answer.status < 500, (method, where, body, answer.body)
        assert "Traceback" not in answer.body

    try_one()
    assert house.server.is_alive()
    browser.cookie = cookie
    assert browser.get().status == 200
