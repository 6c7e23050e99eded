"""What went wrong at fal.ai, in words for the user. They hold no address, header or key."""

from __future__ import annotations

import httpx

from .errors import RemoteError, plain

_REMEDIES = {
    401: "Is the key in FAL_KEY right and still valid?",
    402: "Is there credit left on the account?",
    403: "May this key use the endpoint, and is there credit left on the account?",
    429: "Too many requests at once; try again in a while",
}


def failure(doing: str, error: Exception, secrets: tuple[str, ...]) -> RemoteError:
    """The error to raise for `error`, which happened while `doing`."""
    return error if isinstance(error, RemoteError) else RemoteError(explain(doing, error, secrets))


def explain(doing: str, error: Exception, secrets: tuple[str, ...]) -> str:
    response = getattr(error, "response", None)
    kind = type(error).__name__  # only the type: the text of these errors can hold addresses and header values
    if isinstance(response, httpx.Response):
        reason = http_problem(response, secrets)
    elif isinstance(error, httpx.TransportError):
        reason = f"no connection, or it broke off ({kind}). Is the machine online?"
    else:
        reason = f"the answer was not understood ({kind}). Update fal-client and this pack"
    return f"{doing} failed: {reason}"


def http_problem(response: httpx.Response, secrets: tuple[str, ...]) -> str:
    """The status, and the readable part of the body: its `detail`. Of a list, only what is wrong and where."""
    try:
        body = response.json()
    except ValueError:
        body = None
    detail = body.get("detail") or body.get("error") or body.get("status") if isinstance(body, dict) else None
    if isinstance(detail, list):
        items = [item for item in detail if isinstance(item, dict)]
        detail = "; ".join(f"{_place(item.get('loc'))}: {item.get('msg')}" for item in items)
    kind = body.get("error_type") if isinstance(body, dict) else None
    parts = [f"HTTP {response.status_code}", kind or response.headers.get("x-fal-error-type"), detail]
    text = ", ".join(plain(part, secrets=secrets) for part in parts if isinstance(part, (str, int)) and part)
    remedy = _REMEDIES.get(response.status_code)
    return f"{text}. {remedy}" if remedy else text


def _place(loc: object) -> str:
    """Where in the request something is wrong, as in body.output_fps."""
    return ".".join(map(str, loc)) if isinstance(loc, list) else ""
