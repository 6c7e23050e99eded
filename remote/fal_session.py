"""fal-client's client. Each of its requests is looked at before it is sent with the key."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from urllib.parse import urlsplit

import fal_client.client
import httpx
from fal_client import SyncClient


def key_hosts() -> set[str]:
    """The hosts that may get the key or a token: the queue and its backup domain, and the CDN for uploads."""
    return {urlsplit(url).hostname or "" for url in (fal_client.client.QUEUE_URL_FORMAT, fal_client.client.CDN_URL)}


class GuardedClient(SyncClient):
    """The library's client with `gate` before each of its requests but the one for an upload token."""

    def __init__(self, key: str, gate: Callable[[httpx.Request], None]) -> None:
        super().__init__(key=key)
        self._client.event_hooks = {"request": [gate]}
        self.__dict__["_gate"] = gate  # the class is frozen, so plain assignment raises

    @property
    def session(self) -> httpx.Client:
        """The library's own session, for a request that it must not repeat."""
        return self._client

    @cached_property
    def _uploads(self) -> httpx.Client:
        client = super()._get_cdn_client()
        client.event_hooks = {"request": [self.__dict__["_gate"]]}
        return client

    def close(self) -> None:
        self._client.close()
        if "_uploads" in self.__dict__:
            self._uploads.close()

    def _get_cdn_client(self) -> httpx.Client:
        # One client for all uploads. The library would open one for each, and close none.
        return self._uploads
