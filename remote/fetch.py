"""Files by URL, within bounds.

A workflow can come from anybody, so an address in it must not become a way into the machine's own network (server-side
request forgery). So only https and only public addresses are allowed, and every redirect is checked again. The
connection goes to the very address that was checked, because a name could resolve to another one a moment later (DNS
rebinding). Size and time are limited, whatever the server says.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
import time
import urllib.request
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from .errors import RemoteError, StoppedError, plain

MIB = 1024 * 1024
USER_AGENT = "amt-frame-interpolation (ComfyUI)"
_CHUNK = 64 * 1024
_REDIRECTS = (301, 302, 303, 307, 308)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host name and port to IP addresses."""


@dataclass(frozen=True)
class Rules:
    """What may be fetched, and how much. The defaults are for addresses that a workflow names."""

    private: bool = False
    """Whether http and addresses of the machine's own network are allowed too. Link-local addresses never are, because
    clouds keep credentials there."""
    allowed: Callable[[URL], bool] | None = None
    """If given, no other URLs are allowed. These are known hosts over TLS, which need no check of their addresses. So
    the machine's proxy settings are used for them. For other URLs they are not, because a proxy would resolve the name
    once more."""
    max_bytes: int = 64 * MIB
    """Of one file."""
    max_total: int = 512 * MIB
    """The most bytes of all files of one call."""
    max_redirects: int = 3
    seconds: float = 300
    """The most seconds that the whole call may take."""
    stall: float = 15
    """The most seconds of silence, and the most seconds to connect."""
    parallel: int = 6


def check_url(url: str | URL, rules: Rules) -> URL:
    """The parsed URL, if it may be fetched. What its host name resolves to is checked when the connection is made.

    Raises:
        RemoteError: it is no URL, or not one that `rules` allow.
    """
    try:
        parsed = URL(url)
        host, port = parsed.raw_host or "", parsed.port
    except ValueError:
        raise RemoteError("not a valid URL: expected https://host/path") from None
    if parsed.scheme != "https" and not (rules.private and parsed.scheme == "http"):
        raise RemoteError("expected a URL that starts with https://, or a data URI that starts with data:image/")
    if not host or port is None:
        raise RemoteError("the URL names no host: expected https://host/path")
    if parsed.raw_user is not None or parsed.raw_password is not None:
        raise RemoteError(
            "a URL with a user name or password is refused, because workflows are shared. Use an address that needs "
            "none"
        )
    if rules.allowed is not None:
        if not rules.allowed(parsed):
            raise RemoteError(
                f"the host {plain(host, limit=80)} is not one of the expected ones. Update this pack; it may be new"
            )
    elif ":" in host or host.replace(".", "").isdigit():
        # It looks like an address, so no resolver would be asked. 127.1 and 2130706433 are addresses too.
        check_address(host, rules)
    return parsed


def check_address(address: str, rules: Rules) -> None:
    """Raises RemoteError if `address` is not a public one, or is hidden inside another kind of address."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        raise RemoteError(
            f"{plain(address, limit=80)} is not an IP address in its usual form, such as 192.0.2.1"
        ) from None
    inner: ipaddress.IPv4Address | None = None
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(ip.packed[-4:])
    if inner is not None:
        check_address(str(inner), rules)
        if ip.version == 6 and ip.ipv4_mapped:
            return
    if ip.is_loopback:
        never = False
    else:
        never = ip.is_link_local or ip.is_multicast or ip.is_unspecified or (ip.is_reserved and ip not in _NAT64)
    if never or not (ip.is_global or rules.private):
        raise RemoteError(
            f"{ip} is not a public address. Frames by URL come from public https servers; for servers in "
            "your own network, start ComfyUI with the environment variable AMT_URLS=lan"
        )


async def system_resolve(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(info[4][0]) for info in found]


class _CheckedResolver(AbstractResolver):
    """Gives the connector only addresses that were checked. It connects to exactly these."""

    def __init__(self, rules: Rules, resolve: Resolve) -> None:
        self._rules, self._resolve = rules, resolve

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        results: list[ResolveResult] = []
        for address in dict.fromkeys(await self._resolve(host, port)):
            check_address(address, self._rules)  # all of them must be allowed: a name with one bad address is a trap
            kind = socket.AF_INET6 if ":" in address else socket.AF_INET
            results.append(
                ResolveResult(
                    hostname=host, host=address, port=port, family=kind, proto=0, flags=int(socket.AI_NUMERICHOST)
                )
            )
        if not results:
            raise OSError(f"no address for {host}")
        return results

    async def close(self) -> None:
        pass


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    if "SSL_CERT_FILE" not in os.environ and "SSL_CERT_DIR" not in os.environ:
        try:
            import certifi  # because not every Python finds the system's certificates
        except ImportError:
            pass
        else:
            context.load_verify_locations(certifi.where())
    return context


def _proxy(url: URL) -> str | None:
    # Only the proxy is taken from the environment: aiohttp's trust_env would also send passwords from ~/.netrc.
    host = url.raw_host or ""
    return None if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get(url.scheme)


def fetch_all(
    urls: Mapping[str, str], rules: Rules, *, stop: Event | None = None, resolve: Resolve = system_resolve
) -> list[bytes]:
    """The files behind `urls` (what to call each in an error, and its URL), in order.

    No cookies and no credentials are sent, and compressed transfers are refused. The call blocks, so it must not be
    made in a thread that runs an event loop. `stop` ends it early.

    Raises:
        RemoteError: the first file that fails, as "<name>: <what is wrong>".
    """
    return asyncio.run(_watched(_fetch_all(urls, rules, resolve), stop or Event()))


async def _watched(work: Awaitable[list[bytes]], stop: Event) -> list[bytes]:
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait([task], timeout=0.1)
            if stop.is_set():
                raise StoppedError
        return task.result()
    finally:
        task.cancel()


async def _fetch_all(urls: Mapping[str, str], rules: Rules, resolve: Resolve) -> list[bytes]:
    deadline = time.monotonic() + rules.seconds
    connector = aiohttp.TCPConnector(
        resolver=None if rules.allowed else _CheckedResolver(rules, resolve),
        use_dns_cache=False,
        ssl=_tls(),
        limit=rules.parallel,
    )
    slots = asyncio.Semaphore(rules.parallel)
    total = 0

    def count(more: int) -> None:
        nonlocal total
        total += more
        if total > rules.max_total:
            raise RemoteError(
                f"all files together are larger than {rules.max_total // MIB} MiB. Use fewer or smaller ones"
            )

    async def one(name: str, url: str) -> bytes:
        async with slots:
            try:
                return await _fetch(session, url, rules, deadline, count)
            except RemoteError as error:
                problem = str(error)
            except asyncio.TimeoutError:  # before Python 3.11 it is not the built-in TimeoutError
                spent = time.monotonic() >= deadline
                problem = (
                    f"not done within {rules.seconds:g} s. Use smaller files, or a faster server"
                    if spent
                    else f"the server was silent for more than {rules.stall:g} s. Run the workflow again"
                )
            except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError):
                problem = "the server's certificate could not be verified. Host the file elsewhere"
            except aiohttp.ClientPayloadError:
                problem = "the file broke off before its end. Run the workflow again"
            except aiohttp.ClientConnectionError as error:
                problem = f"no connection, or it broke off ({type(error).__name__}). Is the address right?"
            except (aiohttp.ClientError, OSError, ValueError) as error:
                problem = f"the transfer failed ({type(error).__name__}). Run the workflow again"
            raise RemoteError(f"{name}: {problem}")

    async with aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"},
    ) as session:
        tasks = [asyncio.ensure_future(one(name, url)) for name, url in urls.items()]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()


async def _fetch(
    session: aiohttp.ClientSession, url: str, rules: Rules, deadline: float, count: Callable[[int], None]
) -> bytes:
    target = check_url(url, rules)
    for _ in range(rules.max_redirects + 1):
        timeout = aiohttp.ClientTimeout(
            total=max(deadline - time.monotonic(), 0.001), sock_connect=rules.stall, sock_read=rules.stall
        )
        proxy = _proxy(target) if rules.allowed else None
        async with session.get(target, allow_redirects=False, timeout=timeout, proxy=proxy) as response:
            if response.status in _REDIRECTS:
                target = check_url(target.join(URL(response.headers.get("Location", ""))), rules)
                continue
            if response.status != 200:
                raise RemoteError(
                    f"the server answered HTTP {response.status}. Does the address open in a private browser window?"
                )
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise RemoteError(
                    "the server compressed the transfer although it was asked not to. Host the file elsewhere"
                )
            too_large = f"larger than {rules.max_bytes // MIB} MiB. Make it smaller"
            if (response.content_length or 0) > rules.max_bytes:
                raise RemoteError(too_large)
            body = bytearray()
            async for chunk in response.content.iter_chunked(_CHUNK):
                count(len(chunk))
                body += chunk
                if len(body) > rules.max_bytes:
                    raise RemoteError(too_large)
            return bytes(body)
    raise RemoteError(f"more than {rules.max_redirects} redirects. Use the address that they lead to")
