"""One job in fal.ai's queue, from upload to answer, through the official fal-client.

What it promises beyond the library, and why (fal-client 1.0.3):
- There is one submit for each run. The library sends the POST again when the connection breaks off after it, which can
  start a second job, and bill it. Here it is sent once, on the library's own session.
- No job is left running. Whatever ends a run early (an interrupt, an error, a deadline, the end of the program) cancels
  the job once, even if the answer to the submit comes only later.
- The key goes to fal's queue and token service and nowhere else. The library would take it to whatever host an answer
  names, and to the storage behind its upload fallback.
"""

from __future__ import annotations

import atexit
import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any, TypeVar

import fal_client.client
import httpx
from fal_client import Completed, FalClientHTTPError, Queued, SyncRequestHandle

from ..waiting import Background
from .errors import RemoteError, StoppedError, plain
from .fal_errors import explain, failure, http_problem
from .fal_session import GuardedClient, key_hosts
from .fal_upload import EXPIRY, deliver
from .request import File

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_BAD_ANSWERS = 5
"""After this many bad answers in a row a job is given up."""

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """Seconds."""

    queue: float = 30 * 60
    """Seconds to wait for a machine. fal is also asked to drop the job after them."""
    total: float = 2 * 3600
    interval: float = 1.0
    """Seconds between status calls at first. Later they are up to five times as long, because each call is a line in
    ComfyUI's log."""
    send: float = 60
    """Seconds of silence after which an upload or the submit has failed."""
    call: float = 20
    """Seconds of silence after which a status, result or cancel call has failed."""
    cancel: float = 15
    """Trying to cancel."""


Report = Callable[[str, float], None]
"""What is going on, as plain text, and how far it is, 0 to 1."""


class Job:
    """One run of one endpoint. `run` once, in the thread that may be interrupted.

    `prepare()` makes the files in the working thread; `arguments(urls)` makes the request from where they ended up;
    `finish(answer, stop)` turns the answer into the result.
    """

    def __init__(self, key: str, application: str, *, limits: Limits | None = None) -> None:
        self.request_id: str | None = None
        self._application = application
        self._limits = limits or Limits()
        self._secrets = tuple(secret for secret in (key, *key.split(":")) if len(secret) > 5)
        self._lock = Lock()
        self._stop = Event()
        self._abandoned = False
        self._settled = False  # it is completed, or its cancel is on the way: there is nothing more to cancel
        self._cancel_by = 0.0
        self._begun = time.monotonic()
        self._extend_to_total()
        self._reports: SimpleQueue[tuple[str, float]] = SimpleQueue()
        self._client = GuardedClient(key, self._gate)

    # --- the thread that may be interrupted

    def run(
        self,
        prepare: Callable[[], Sequence[File]],
        arguments: Callable[[list[str]], dict[str, Any]],
        finish: Callable[[Any, Event], T],
        *,
        report: Report,
        check: Callable[[], None],
    ) -> T:
        """Raises RemoteError, or whatever `check`, `report` or `prepare` raises. Leaves nothing running at fal."""

        def attend() -> None:
            check()
            while not self._reports.empty():
                report(*self._reports.get())
            if time.monotonic() > self._deadline:
                raise RemoteError(f"the fal.ai job {self._late} and was given up. Run the workflow again later")

        def work(_: Event) -> T:
            urls = deliver(self._client, prepare(), self._secrets, self._say, self._stop)
            self._submit(arguments(urls))
            answer = self._answer()
            self._client.close()
            self._say("downloading the video", 0.8)
            return finish(answer, self._stop)

        atexit.register(self._cancel_now)
        try:
            return Background(work, "amt-fal", stop=self._stop).result(attend)
        finally:
            self.abandon()
            atexit.unregister(self._cancel_now)

    def abandon(self) -> None:
        """Cancels the job if there is one that may still run, and does not wait for the answer."""
        if self._claim_cancel():
            # Not a daemon thread: the program does not end before the cancel is sent, which takes seconds at most.
            Thread(target=self._cancel, name="amt-fal-cancel").start()

    def _claim_cancel(self) -> bool:
        with self._lock:
            self._abandoned = True
            if self.request_id is None or self._settled:
                return False
            self._settled = True
            return True

    def _cancel_now(self) -> None:
        if self._claim_cancel():
            self._cancel()

    def _cancel(self) -> None:
        self._cancel_by = time.monotonic() + self._limits.cancel
        try:
            self._handle.cancel()
        except Exception as error:
            log.warning("%s (job %s)", explain("cancelling the fal.ai job", error, self._secrets), self.request_id)
        else:
            log.info("fal.ai job %s cancelled; if it was running already, it may still be billed", self.request_id)

    # --- the working thread

    def _say(self, text: str, done: float) -> None:
        self._reports.put((text, done))

    def _gate(self, request: httpx.Request) -> None:
        """Looks at each request that carries the key or a token, also at redirects and at the library's repetitions."""
        if request.url.host not in key_hosts():
            raise RemoteError(
                "fal.ai pointed to an unexpected host; the key was not sent there. Update fal-client and this pack"
            )
        if request.method == "PUT":
            if time.monotonic() > self._cancel_by:
                raise StoppedError
        elif self._stop.is_set():
            raise StoppedError
        patience = self._limits.send if request.method == "POST" else self._limits.call
        # A write or a pool that hangs is silence too. The library itself limits how long connecting to the queue takes.
        request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), patience)

    def _submit(self, arguments: dict[str, Any]) -> None:
        """Sends the one POST. What happens to it decides what the user is told about costs."""
        self._say("submitting", 0.3)
        if self._stop.is_set():
            raise StoppedError
        headers = {
            "X-Fal-Request-Timeout": str(float(self._limits.queue)),
            "X-Fal-Store-IO": "0",
            "X-Fal-Object-Lifecycle-Preference": f'{{"expiration_duration_seconds": {EXPIRY}}}',
        }
        try:
            # Not client.submit(), which repeats the POST.
            response = self._client.session.post(
                fal_client.client.QUEUE_URL_FORMAT + self._application,
                json=arguments,
                headers=headers,
                follow_redirects=False,
            )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
            raise failure("submitting to fal.ai", error, self._secrets) from None
        except httpx.RequestError as error:
            raise RemoteError(
                f"the connection broke off while the job was being submitted ({type(error).__name__}). fal.ai may have "
                "accepted it; it was not sent again, because that could be paid twice. Look at the dashboard on "
                "fal.ai, then run the workflow again"
            ) from None
        if not response.is_success:
            raise RemoteError(f"submitting to fal.ai failed: {http_problem(response, self._secrets)}")
        try:
            request_id = response.json()["request_id"]
            valid = _REQUEST_ID.fullmatch(request_id)
        except (ValueError, KeyError, TypeError):
            valid = None
        if not valid:
            raise RemoteError(
                "fal.ai answered the submit with something unreadable. The job may be running all the same; it was "
                "not sent again. Look at the dashboard on fal.ai"
            )
        with self._lock:
            self.request_id = valid.group()
            late = self._abandoned
        log.info("fal.ai job %s submitted", self.request_id)
        if late:
            self._cancel_now()
            raise StoppedError
        self._late = f"waited in the queue for more than {self._limits.queue / 60:g} minutes"
        self._deadline = min(self._deadline, time.monotonic() + self._limits.queue)

    def _extend_to_total(self) -> None:
        self._late = f"did not finish within {self._limits.total / 60:g} minutes"
        self._deadline = self._begun + self._limits.total

    def _wait(self) -> Completed:
        """Asks for the status until the job has ended, with a result or an error."""
        seen: set[tuple[str, str]] = set()
        polls = 0
        while True:
            status = self._patiently("asking fal.ai for the status", lambda: self._handle.status(with_logs=True))
            if isinstance(status, Completed):
                return status
            if isinstance(status, Queued):
                self._say(f"in the queue, {plain(status.position, limit=12)} ahead", 0.35)
            else:
                self._extend_to_total()
                self._say(self._last_log(getattr(status, "logs", None), seen) or "running", 0.5)
            polls += 1
            if self._stop.wait(self._limits.interval * min(5, 1 + polls // 20)):
                raise StoppedError

    def _answer(self) -> Any:
        """The endpoint's answer, once the job is completed."""
        status = self._wait()
        with self._lock:
            self._settled = True
        self._extend_to_total()
        self._say("fetching the result", 0.75)
        answer = self._patiently("the fal.ai job", lambda: self._handle.get(interval=self._limits.interval))
        if status.error:
            raise RemoteError(f"the fal.ai job failed: {plain(status.error, secrets=self._secrets)}")
        return answer

    @cached_property
    def _handle(self) -> SyncRequestHandle:
        # The addresses are made from the id alone. The library would take them from the answer.
        assert self.request_id is not None
        return self._client.get_handle(self._application, self.request_id)

    def _last_log(self, logs: object, seen: set[tuple[str, str]]) -> str:
        """The newest line that was not shown before. Between two answers the list may grow, or lose its first lines."""
        newest = ""
        for entry in logs if isinstance(logs, list) else ():
            if isinstance(entry, dict) and entry.get("message"):
                line = (str(entry.get("timestamp")), str(entry["message"]))
                if line not in seen:
                    seen.add(line)
                    newest = plain(line[1], secrets=self._secrets, limit=200)
        return newest

    def _patiently(self, doing: str, call: Callable[[], T]) -> T:
        """Repeats a call that starts nothing, so that a job that is paid for survives a few bad answers."""
        for attempt in range(1, _BAD_ANSWERS + 1):
            try:
                return call()
            except FalClientHTTPError as error:
                if error.status_code < 500 or attempt == _BAD_ANSWERS:
                    raise failure(doing, error, self._secrets) from None
            except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
                if attempt == _BAD_ANSWERS:
                    raise failure(doing, error, self._secrets) from None
            if self._stop.wait(self._limits.interval):
                raise StoppedError
        raise AssertionError
