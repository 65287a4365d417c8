"""A lean HTTP/1.1 load generator: keep-alive connections, one request in flight on each, no parsing beyond need."""

import asyncio
import gc
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import uvloop


@dataclass
class Result:
    """What a run measured: seconds per request, and answers by status."""

    seconds: float
    latencies: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many answers."""
        return len(self.latencies)

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    def percentile(self, part: float) -> float:
        """A latency in milliseconds."""
        return percentile(self.latencies, part)


def percentile(latencies: Sequence[float], part: float) -> float:
    """Milliseconds that this part of the latencies, in seconds, is within."""
    ordered = sorted(latencies)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)] * 1000


class _Connection(asyncio.Protocol):
    def __init__(self, answered: Callable[["_Connection", int], None]) -> None:
        self._answered = answered
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by type

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < end + 4 + length:
            return
        self._buffer = self._buffer[end + 4 + length :]
        self._answered(self, int(head[9:12]))


def run(make: Callable[[], Coroutine[None, None, Result]], expected: int = 200) -> Result:
    """Run one measurement on a fresh loop, undisturbed by collections; any answer but the expected one fails it."""
    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(make())
    finally:
        gc.enable()
    assert set(result.statuses) == {expected}, f"answers by status: {result.statuses}"
    return result


def request_bytes(path: str, headers: dict[str, str], body: bytes) -> bytes:
    """One POST as it goes over the wire."""
    lines = [f"POST {path} HTTP/1.1", "Host: bench", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def closed_loop(port: int, requests: Iterator[bytes], count: int, connections: int) -> Result:
    """As fast as the server answers: each connection sends its next request when the last was answered."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    result = Result(0.0)
    sent_at: dict[_Connection, float] = {}
    left = count

    def send(connection: _Connection) -> None:
        nonlocal left
        if left <= 0:
            return
        left -= 1
        sent_at[connection] = time.perf_counter()
        connection.transport.write(next(requests))

    def answered(connection: _Connection, status: int) -> None:
        result.latencies.append(time.perf_counter() - sent_at[connection])
        result.statuses[status] = result.statuses.get(status, 0) + 1
        if len(result.latencies) == count:
            done.set_result(None)
        send(connection)

    made = [
        (await loop.create_connection(lambda: _Connection(answered), "127.0.0.1", port))[1] for _ in range(connections)
    ]
    started = time.perf_counter()
    for connection in made:
        send(connection)
    await done
    result.seconds = time.perf_counter() - started
    for connection in made:
        connection.transport.close()
    return result


async def open_loop(
    port: int, make: Callable[[float], bytes], count: int, rate: float, connections: int = 128
) -> Result:
    """At a fixed rate, whatever the server does: `make` gets the time a request was due, and latency counts from it."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    result = Result(0.0)
    due: dict[_Connection, float] = {}
    waiting: deque[float] = deque()

    def send(connection: _Connection, at: float) -> None:
        due[connection] = at
        connection.transport.write(make(at))

    def answered(connection: _Connection, status: int) -> None:
        result.latencies.append(time.perf_counter() - due[connection])
        result.statuses[status] = result.statuses.get(status, 0) + 1
        if len(result.latencies) == count:
            done.set_result(None)
        if waiting:
            send(connection, waiting.popleft())
        else:
            free.append(connection)

    made = [
        (await loop.create_connection(lambda: _Connection(answered), "127.0.0.1", port))[1] for _ in range(connections)
    ]
    free = list(made)
    started = time.perf_counter()
    for n in range(count):
        at = started + n / rate
        pause = at - time.perf_counter()
        if pause > 0:
            await asyncio.sleep(pause)
        if free:
            send(free.pop(), at)
        else:
            waiting.append(at)
    await done
    result.seconds = time.perf_counter() - started
    for connection in made:
        connection.transport.close()
    return result
