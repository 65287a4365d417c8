"""A server on loopback that speaks S3 (moto's), with one bucket."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection

NAME = "partyline-files"


@contextmanager
def bucket() -> Iterator[str]:
    """The server's URL; it ends with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _make_bucket(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _make_bucket(port: int) -> None:
    """Once the server listens."""
    until = time.monotonic() + 20
    while True:
        connection = HTTPConnection("127.0.0.1", port)
        try:
            connection.request("PUT", f"/{NAME}")
            assert connection.getresponse().status == 200
            return
        except ConnectionRefusedError:
            assert time.monotonic() < until, "the S3 server does not listen"
            time.sleep(0.02)
        finally:
            connection.close()
