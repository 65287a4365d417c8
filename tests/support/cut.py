"""A line to the shared PostgreSQL that can be cut, or go silent, and come back."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

SOCKET = ".s.PGSQL.5432"


@dataclass
class Line:
    """Forwards a Unix socket of its own to the server's. `down`: refused; `silent`: taken and never answered."""

    target: str
    folder: Path
    _server: asyncio.Server | None = None
    _links: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _open: asyncio.Event = field(default_factory=asyncio.Event)

    async def up(self) -> None:
        """Take connections, and carry what is said."""
        self._open.set()
        if self._server is None:
            self._server = await asyncio.start_unix_server(self._take, self.folder / SOCKET)

    async def down(self) -> None:
        """Break every connection and refuse new ones."""
        server, self._server = self._server, None
        if server:
            server.close()
        (self.folder / SOCKET).unlink(missing_ok=True)
        for writer in list(self._links):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def silent(self) -> None:
        """Keep connections and carry nothing more, until `up`."""
        self._open.clear()

    def forsake(self) -> None:
        """What went silent stays so for ever; all else is carried again."""
        self._open = asyncio.Event()
        self._open.set()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Also one that is being taken is broken, when the line goes down."""
        self._links.add(writer)
        taking = asyncio.current_task()
        assert taking
        self._keep(taking)
        there, back = await asyncio.open_unix_connection(self.target)
        self._links.add(back)
        for source, sink in ((reader, back), (there, writer)):
            self._keep(asyncio.create_task(self._carry(source, sink)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await source.read(65_536):
                await self._open.wait()
                sink.write(piece)
                await sink.drain()
        self._links.discard(sink)
        sink.close()


@asynccontextmanager
async def line_to(database_url: str) -> AsyncIterator[tuple[str, Line]]:
    """A URL for the same database through a line, and the line."""
    parts = urlsplit(database_url)
    folder = Path(tempfile.mkdtemp(prefix="pl-cut-", dir="/tmp"))
    line = Line(f"{parse_qs(parts.query)['host'][0]}/{SOCKET}", folder)
    await line.up()
    try:
        yield f"postgresql://{parts.username}@/{parts.path[1:]}?host={folder}", line
    finally:
        await line.down()
        shutil.rmtree(folder, ignore_errors=True)
