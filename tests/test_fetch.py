"""Frames by URL under the rules that a workflow meets: hostile servers on loopback, real TLS, real redirects.

The rules are never switched off here. Names resolve to public addresses through the `resolve` that `fetch_all` takes,
and the dialler, one layer below everything that checks, takes connections to those addresses to loopback instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import aiohappyeyeballs
import pytest
from amt_frame_interpolation.remote.errors import RemoteError
from amt_frame_interpolation.remote.fetch import Rules, check_address, check_url, fetch_all
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import Authority, serve

HOST, OTHER, BAD_NAME = "frames.example", "other.example", "not-in-the-certificate.example"
PUBLIC = "93.184.216.34"
PRIVATE = [
    *("127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
    *("255.255.255.255", "224.0.0.1", "240.0.0.1", "192.0.2.1", "198.18.0.1"),
    *("::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "::127.0.0.1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a00:1"),
    "2001:0:4136:e378:8000:63bf:f5ff:fffe",  # Teredo of 10.0.0.1
]


class Web:
    """What the servers say by path, what names resolve to, what was dialled and asked for."""

    def __init__(self) -> None:
        self.pages: dict[str, Callable[[BaseHTTPRequestHandler], object]] = {}
        self.names: dict[str, list[str]] = {HOST: [PUBLIC], OTHER: [PUBLIC], BAD_NAME: [PUBLIC]}
        self.dialled: list[str] = []
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.looked_up: list[str] = []
        self.done = threading.Event()

    async def resolve(self, host: str, port: int) -> list[str]:
        self.looked_up.append(host)
        if host not in self.names:
            raise socket.gaierror("no such name")
        return self.names[host]

    def get(self, *urls: str, **rules: Any) -> list[bytes]:
        named = {f"line {number}": url for number, url in enumerate(urls, 1)}
        return fetch_all(named, Rules(**{"stall": 1, "seconds": 5, **rules}), resolve=self.resolve)

    def refuses(self, url: str, *words: str, **rules: Any) -> None:
        with pytest.raises(RemoteError, match="line 1: ") as caught:
            self.get(url, **rules)
        for word in words:
            assert word in str(caught.value)


def page(body: bytes = b"", status: int = 200, length: int | None = None, **headers: str) -> Callable[..., None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def redirect(to: str, status: int = 302) -> Callable[..., None]:
    return page(status=status, Location=to)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("web"), [HOST, OTHER, "xn--bcher-kva.example"])


@pytest.fixture
def web(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            web.seen.append((self.headers["Host"], self.path, dict(self.headers)))
            web.pages.get(self.path, page(status=404))(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    async def start_connection(addr_infos: Any, **how: Any) -> socket.socket:
        web.dialled.extend(info[4][0] for info in addr_infos)
        own = socket.socket()
        own.setblocking(False)
        await asyncio.get_running_loop().sock_connect(own, ("127.0.0.1", port))
        return own

    monkeypatch.setattr(aiohappyeyeballs, "start_connection", start_connection)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    # A proxy would resolve names by itself: it must not be used. This one does not exist.
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with serve(Handler, authority) as port:
        yield web
        web.done.set()


# --- what is fine


def test_files_come_in_order_from_the_address_that_was_checked(web: Web) -> None:
    web.pages = {f"/{number}": page(b"file %d" % number, Content_Type="text/html") for number in range(9)}
    urls = [f"https://{HOST}/{number}" for number in range(9)]
    assert web.get(*urls) == [b"file %d" % number for number in range(9)]
    assert set(web.dialled) == {PUBLIC}
    host, _, headers = web.seen[0]
    assert host == HOST
    assert {"Authorization", "Cookie", "Referer"}.isdisjoint(headers)
    assert headers["Accept-Encoding"] == "identity"


def test_redirects_are_followed_within_the_rules(web: Web) -> None:
    web.pages = {"/a": redirect("/b", 301), "/b": redirect(f"//{OTHER}/c", 307), "/c": page(b"here")}
    assert web.get(f"https://{HOST}/a") == [b"here"]
    assert [seen[0] for seen in web.seen] == [HOST, HOST, OTHER]


def test_names_in_other_scripts(web: Web) -> None:
    web.names["xn--bcher-kva.example"] = [PUBLIC]
    web.pages["/a"] = page(b"here")
    assert web.get("https://bücher.example/a") == [b"here"]


# --- where it must not go


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public_are_refused_after_resolving(web: Web, address: str) -> None:
    for answer in ([address], [PUBLIC, address]):
        web.names[HOST] = answer
        web.refuses(f"https://{HOST}/", "not a public address", "AMT_URLS=lan")
    assert web.dialled == []


@pytest.mark.parametrize("address", [*PRIVATE, "127.1", "2130706433", "0177.0.0.1", "017700000001", "１２７.0.0.1"])
def test_addresses_in_the_url_are_refused(web: Web, address: str) -> None:
    web.refuses(f"https://[{address}]/" if ":" in address else f"https://{address}/")
    assert web.dialled == web.looked_up == []


def test_hexadecimal_addresses_are_judged_by_what_they_resolve_to(web: Web) -> None:
    web.names["0x7f000001"] = ["127.0.0.1"]
    web.refuses("https://0x7f000001/", "not a public address")
    assert web.dialled == []


@pytest.mark.parametrize("address", PRIVATE)
def test_redirects_to_addresses_that_are_not_public_are_refused(web: Web, address: str) -> None:
    literal = f"[{address}]" if ":" in address else address
    web.pages = {"/literal": redirect(f"https://{literal}/"), "/name": redirect("https://inside.example/")}
    web.names["inside.example"] = [address]
    web.refuses(f"https://{HOST}/literal")
    web.refuses(f"https://{HOST}/name", "not a public address")
    assert set(web.dialled) == {PUBLIC}


@pytest.mark.parametrize(
    "target",
    [
        *("http://frames.example/", "ftp://frames.example/", "file:///etc/passwd", "data:image/png;base64,AAAA"),
        *("https://user:pw@frames.example/", "https://", "https://[::1", "", "https://frames.example:99999/"),
    ],
)
def test_redirects_to_other_kinds_of_address_are_refused(web: Web, target: str) -> None:
    web.pages["/a"] = redirect(target)
    web.refuses(f"https://{HOST}/a")
    assert set(web.dialled) == {PUBLIC}


def test_redirects_in_a_circle_end(web: Web) -> None:
    web.pages["/a"] = redirect("/a")
    web.refuses(f"https://{HOST}/a", "more than 3 redirects")
    assert len(web.seen) == 4


def test_a_name_that_resolves_differently_the_second_time(web: Web) -> None:
    """DNS rebinding: one look-up, and its answer is what is dialled."""
    answers = iter([[PUBLIC], ["127.0.0.1"], ["127.0.0.1"]])

    async def resolve(host: str, port: int) -> list[str]:
        web.looked_up.append(host)
        return next(answers)

    web.resolve = resolve  # type: ignore[method-assign]
    web.pages["/a"] = page(b"here")
    assert web.get(f"https://{HOST}/a") == [b"here"]
    assert web.looked_up == [HOST]
    assert web.dialled == [PUBLIC]
    web.refuses(f"https://{HOST}/a", "not a public address")
    assert web.dialled == [PUBLIC]


def test_rebinding_between_redirects(web: Web) -> None:
    answers = iter([[PUBLIC], ["127.0.0.1"]])

    async def resolve(host: str, port: int) -> list[str]:
        return next(answers)

    web.resolve = resolve  # type: ignore[method-assign]
    web.pages["/a"] = redirect(f"https://{HOST}:8443/a")
    web.refuses(f"https://{HOST}/a", "not a public address")


def test_a_certificate_for_another_name_is_refused(web: Web) -> None:
    web.refuses(f"https://{BAD_NAME}/", "certificate")
    assert web.seen == []


def test_a_name_that_does_not_exist(web: Web) -> None:
    web.refuses("https://nowhere.example/", "no connection")


@pytest.mark.parametrize(
    "url", ["http://frames.example/", "ftp://frames.example/a", "file:///etc/passwd", "frames.png"]
)
def test_only_https(web: Web, url: str) -> None:
    web.refuses(url, "https://")
    assert web.looked_up == []


def test_the_owner_can_open_the_local_network_but_not_the_clouds_credentials() -> None:
    lan = Rules(private=True)
    for address in ("127.0.0.1", "10.0.0.1", "192.168.1.1", "100.64.0.1", "::1", "fc00::1", "::ffff:10.0.0.1", PUBLIC):
        check_address(address, lan)
    for address in (
        "169.254.169.254",
        "fe80::1",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "255.255.255.255",
        "::ffff:169.254.1.1",
    ):
        with pytest.raises(RemoteError):
            check_address(address, lan)
    check_url("http://192.168.1.1:8000/a.png", lan)


@settings(deadline=None)
@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_no_address_passes_that_the_standard_library_calls_private(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    try:
        check_address(str(address), Rules())
    except RemoteError:
        return
    assert address.is_global
    assert not address.is_private
    assert not address.is_link_local
    assert not address.is_multicast


@settings(deadline=None)
@given(st.ip_addresses(v=4))
def test_wrapping_an_address_in_ipv6_changes_nothing(address: ipaddress.IPv4Address) -> None:
    def passes(text: str) -> bool:
        try:
            check_address(text, Rules())
        except RemoteError:
            return False
        return True

    number = int(address)
    mapped = ipaddress.IPv6Address((0xFFFF << 32) | number)
    nat64 = ipaddress.IPv6Address((0x64FF9B << 96) | number)
    assert passes(str(address)) == passes(str(mapped)) == passes(str(nat64))
    assert passes(str(ipaddress.IPv6Address((0x2002 << 112) | (number << 80)))) <= passes(str(address))


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_url_or_a_clear_error(text: str) -> None:
    for candidate in (text, "https://" + text):
        with contextlib.suppress(RemoteError):
            check_url(candidate, Rules())


# --- how much


def test_an_honest_length_over_the_limit_is_refused_before_the_body(web: Web) -> None:
    web.pages["/a"] = page(b"", length=10**12)
    web.refuses(f"https://{HOST}/a", "larger than 1 MiB", max_bytes=2**20)


def test_a_body_that_never_ends_is_cut(web: Web) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not web.done.is_set():
            handler.wfile.write(bytes(65536))

    web.pages["/a"] = endless
    web.refuses(f"https://{HOST}/a", "larger than 1 MiB", max_bytes=2**20)


def test_all_files_together_are_limited(web: Web) -> None:
    web.pages["/a"] = page(bytes(2**19))
    with pytest.raises(RemoteError, match="all files together are larger than 1 MiB"):
        web.get(*[f"https://{HOST}/a"] * 3, max_total=2**20)


def test_a_body_shorter_than_its_length_is_refused(web: Web) -> None:
    web.pages["/a"] = page(b"short", length=100)
    web.refuses(f"https://{HOST}/a", "broke off")


def test_a_body_longer_than_its_length_gives_nothing_beyond_it(web: Web) -> None:
    web.pages["/a"] = page(b"longer than it says", length=6)
    with contextlib.suppress(RemoteError):  # when all of it arrives at once, it is not taken for HTTP at all
        assert web.get(f"https://{HOST}/a") == [b"longer"]


@pytest.mark.parametrize("status", [204, 206, 400, 401, 403, 404, 500, 503])
def test_other_answers_are_errors(web: Web, status: int) -> None:
    web.pages["/a"] = page(b"", status=status)
    web.refuses(f"https://{HOST}/a", f"HTTP {status}")


def test_compression_is_refused(web: Web) -> None:
    web.pages["/a"] = page(b"\x1f\x8b", Content_Encoding="gzip")
    web.refuses(f"https://{HOST}/a", "compressed")


@pytest.mark.parametrize("answer", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", b""])
def test_a_server_that_does_not_speak_http(web: Web, answer: bytes) -> None:
    web.pages["/a"] = lambda handler: handler.wfile.write(answer)
    web.refuses(f"https://{HOST}/a")


# --- how long


def test_a_server_that_falls_silent_is_given_up(web: Web) -> None:
    def stalls(handler: BaseHTTPRequestHandler) -> None:
        page(b"start", length=100)(handler)
        web.done.wait(10)

    web.pages["/a"] = stalls
    web.refuses(f"https://{HOST}/a", "silent", stall=0.3)


def test_a_server_that_drips_is_bounded_as_a_whole(web: Web) -> None:
    def drips(handler: BaseHTTPRequestHandler) -> None:
        page(b"", length=10**6)(handler)
        while not web.done.wait(0.05):
            handler.wfile.write(b".")

    web.pages["/a"] = drips
    web.refuses(f"https://{HOST}/a", "not done within 1 s", seconds=1)


def test_headers_that_drip_are_bounded_too(web: Web) -> None:
    def drips(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.flush_headers()
        while not web.done.wait(0.05):
            handler.wfile.write(b"X-More: 1\r\n")

    web.pages["/a"] = drips
    web.refuses(f"https://{HOST}/a", seconds=1)


def test_it_can_be_stopped(web: Web) -> None:
    stop, answered = threading.Event(), threading.Event()

    def stalls(handler: BaseHTTPRequestHandler) -> None:
        stop.set()
        web.done.wait(30)
        answered.set()

    web.pages["/a"] = stalls
    with pytest.raises(RemoteError):
        fetch_all({"a": f"https://{HOST}/a"}, Rules(stall=60), stop=stop, resolve=web.resolve)
    assert not answered.is_set()  # nobody has waited for the server
