"""Endpoints of any number of subscribers in one process: lean, so that it takes little from what is measured.

Every path under /hook/ is an endpoint of its own. It notes what arrived when, what came twice, and what came out of
order. Some can be made slow or refuse one customer's messages. The rest of the paths is for the benchmark.
"""

import asyncio
import gc
import json
import re
import signal
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import uvloop

_EVENT = re.compile(rb'"event_id":"evt_([0-9a-f]+)"')
_PLACE = re.compile(rb'"conversation":\{"id":"cnv_([0-9a-f]+)"[^}]*?"sequence":([0-9]+)')
_TEXT = re.compile(rb'"text":"([0-9.]+) ([0-9]+) ')
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_BAD = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
_SAMPLES = 1000


@dataclass
class _Endpoint:
    answers_after: float = 0.0
    refuses: bytes = b""
    times: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    samples: list[bytes] = field(default_factory=list)
    seen: set[bytes] = field(default_factory=set)
    places: dict[bytes, int] = field(default_factory=dict)
    duplicates: int = 0
    reordered: int = 0
    refused: int = 0

    def take(self, body: bytes) -> bool:
        """Note a delivery; whether it is taken. What is no customer's message is taken and not noted."""
        now = time.perf_counter()
        if b'"message.received"' not in body[:64]:
            return True
        text = _TEXT.search(body)
        if text and text[2] == self.refuses:
            self.refused += 1
            return False
        self.times.append(now)
        if len(self.samples) < _SAMPLES:
            self.samples.append(body)
        event, place = _EVENT.search(body), _PLACE.search(body)
        if event is None or place is None:
            raise ValueError(f"not an event: {body[:300]!r}")
        if event[1] in self.seen:
            self.duplicates += 1
            return True
        self.seen.add(event[1])
        sequence = int(place[2])
        if sequence <= self.places.get(place[1], 0):
            self.reordered += 1
        self.places[place[1]] = sequence
        if text:
            self.latencies.append(now - float(text[1]))
        return True

    def summary(self) -> dict[str, int]:
        """Counts only."""
        return {
            "taken": len(self.times),
            "unique": len(self.seen),
            "duplicates": self.duplicates,
            "reordered": self.reordered,
            "refused": self.refused,
        }


class _Endpoints:
    def __init__(self) -> None:
        self.named: dict[str, _Endpoint] = {}

    def get(self, name: str) -> _Endpoint:
        return self.named.setdefault(name, _Endpoint())

    def control(self, path: str, body: bytes) -> Any:
        """The benchmark's own calls."""
        if path == "/reset":
            self.named = {}
        elif path == "/set":
            for name, values in json.loads(body).items():
                endpoint = self.get(name)
                endpoint.answers_after = values.get("answers_after", 0.0)
                endpoint.refuses = values.get("refuses", "").encode()
        elif path == "/counts":
            return {name: endpoint.summary() for name, endpoint in self.named.items()}
        elif path.startswith("/samples/"):
            return [sample.decode() for sample in self.get(path.removeprefix("/samples/")).samples]
        elif path.startswith("/report/"):
            endpoint = self.get(path.removeprefix("/report/"))
            return {**endpoint.summary(), "times": endpoint.times, "latencies": endpoint.latencies}
        return {}


class _Connection(asyncio.Protocol):
    def __init__(self, endpoints: _Endpoints) -> None:
        self._endpoints = endpoints
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by type

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            if b"ransfer-" in head and b"chunked" in head:
                raise ValueError("the sink reads no chunked bodies")
            length = _LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < whole:
                return
            body, self._buffer = self._buffer[end + 4 : whole], self._buffer[whole:]
            self._answer(head.split(b" ", 2)[1].decode(), body)

    def _answer(self, path: str, body: bytes) -> None:
        if not path.startswith("/hook/"):
            text = json.dumps(self._endpoints.control(path, body)).encode()
            self._write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))
            return
        endpoint = self._endpoints.get(path[6:])
        answer = _OK if endpoint.take(body) else _BAD
        if endpoint.answers_after:
            asyncio.get_running_loop().call_later(endpoint.answers_after, self._write, answer)
        else:
            self._transport.write(answer)

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


def main() -> None:
    """Serve on the port given until SIGTERM."""
    gc.disable()  # no cycles are made here; a collection would be felt in every latency
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1])))


async def _serve(port: int) -> None:
    loop, endpoints, stop = asyncio.get_running_loop(), _Endpoints(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(lambda: _Connection(endpoints), "127.0.0.1", port, backlog=1024)
    await stop.wait()
    server.close()


class MissingError(AssertionError):
    """What was acknowledged to the provider did not arrive, or not in order."""


@dataclass(frozen=True)
class Sink:
    """The benchmark's side of it."""

    port: int

    def url(self, name: str) -> str:
        """An endpoint."""
        return f"http://127.0.0.1:{self.port}/hook/{name}"

    def _call(self, path: str, values: Any = None) -> Any:
        data = None if values is None else json.dumps(values).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", data, timeout=60) as response:
            return json.loads(response.read())

    def reset(self) -> None:
        """Forget all endpoints and what they noted."""
        self._call("/reset", {})

    def set(self, **endpoints: dict[str, Any]) -> None:
        """How endpoints answer: `answers_after` so many seconds; `refuses` this customer's messages."""
        self._call("/set", endpoints)

    def count(self, name: str) -> int:
        """How many different events have arrived at an endpoint."""
        unique: int = self._call("/counts").get(name, {}).get("unique", 0)
        return unique

    def report(self, name: str) -> dict[str, Any]:
        """All that an endpoint noted."""
        report: dict[str, Any] = self._call(f"/report/{name}")
        return report

    def samples(self, name: str, folder: Path) -> tuple[Path, int]:
        """Bodies that arrived at an endpoint first, one a line in a file, and their median length."""
        bodies: list[str] = self._call(f"/samples/{name}")
        file = folder / "samples"
        file.write_text("\n".join(bodies))
        return file, sorted(len(body) for body in bodies)[len(bodies) // 2]

    def wait(self, wanted: dict[str, int], seconds: float = 60) -> None:
        """Wait until so many different events arrived at each endpoint. Raises `MissingError`."""
        deadline = time.monotonic() + seconds
        while True:
            counts = self._call("/counts")
            seen = {name: counts.get(name, {}).get("unique", 0) for name in wanted}
            if all(seen[name] >= count for name, count in wanted.items()):
                break
            if time.monotonic() > deadline:
                missing = {name: f"{seen[name]} of {count}" for name, count in wanted.items() if seen[name] < count}
                raise MissingError(f"within {seconds:.0f} s there arrived only {missing}")
            time.sleep(0.05)
        self._check(counts, wanted)

    def _check(self, counts: dict[str, Any], wanted: dict[str, int]) -> None:
        for name, count in wanted.items():
            if counts[name]["reordered"]:
                raise MissingError(f"{name}: {counts[name]['reordered']} events came out of order")
            if counts[name]["unique"] > count:
                raise MissingError(f"{name}: {counts[name]['unique']} events instead of {count}")
            if counts[name]["duplicates"]:
                print(f"{name}: {counts[name]['duplicates']} events came twice", file=sys.stderr)


def middle(times: list[float]) -> tuple[float, int]:
    """Seconds and arrivals of the middle four fifths: without the start, and without the lanes that end last."""
    ordered = sorted(times)
    first, last = len(ordered) // 10, len(ordered) * 9 // 10
    return ordered[last] - ordered[first], last - first


if __name__ == "__main__":
    main()
