"""Servers on loopback with real TLS: a throw-away authority made by the `openssl` program, trusted by nobody else."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


def _openssl(*arguments: str, cwd: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True)


class Authority:
    """Issues one certificate for `hosts`. `file` is what a client has to trust (SSL_CERT_FILE)."""

    def __init__(self, folder: Path, hosts: Sequence[str]) -> None:
        if not shutil.which("openssl"):
            pytest.skip("there is no openssl program here")
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "ca.pem"
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        names = ",".join(f"DNS:{host}" for host in hosts)
        (folder / "leaf.cnf").write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth\n")
        _openssl(
            *("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=Loopback tests"),
            *("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"),
            cwd=folder,
        )
        _openssl("req", "-new", *key, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=leaf", cwd=folder)
        _openssl(
            *("x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-out", "leaf.pem", "-days", "2", "-extfile", "leaf.cnf"),
            cwd=folder,
        )
        self.server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server_context.load_cert_chain(folder / "leaf.pem", folder / "leaf.key")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients that hang up are part of the tests


@contextmanager
def serve(handler: type[BaseHTTPRequestHandler], authority: Authority | None = None) -> Iterator[int]:
    """Runs a server on a free port and yields the port."""
    server = _Server(("127.0.0.1", 0), handler)
    if authority:
        server.socket = authority.server_context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
