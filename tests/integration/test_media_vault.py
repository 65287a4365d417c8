"""The vault: what it fetches, how often, where bytes lie and when they go, with a real database and S3 server."""

import asyncio
import hashlib
import io
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import aiohttp
import pytest

from hub.actions.inbound_media import InboundMedia
from hub.domain.errors import Unavailable
from hub.domain.ids import new_id
from hub.domain.media_links import MediaLinks
from hub.store import media, media_endings, media_fetches
from hub.store.blobs import FOLDERS, BlobMissing
from hub.store.files import Files
from hub.store.keeping import keeping, remove_unnamed, sweep
from hub.store.media import MediaDraft
from hub.store.pool import Database, TryAgain
from hub.store.s3 import Bucket, S3Blobs
from hub.workers.janitor import Janitor
from hub.workers.media_desk import MediaDesk
from hub.workers.media_vault import MediaVault
from providers.base import (
    Customer,
    MediaRef,
    MediaStream,
    MessageReceived,
    NotTaken,
    OutboundMessage,
    Provider,
    Refused,
    SenderRef,
    Upload,
)
from tests.support.bucket import NAME, bucket
from tests.support.talk import MIA, automates, writes
from tests.support.wire import ask, until
from tests.support.world import world

MAX = 9_000_000
META = SenderRef("meta", "whatsapp", ("1",))


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Where a server that speaks S3 listens."""
    with bucket() as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    made = Database(lambda: {"dsn": database_url}, size=12)
    await made.open()
    yield made
    await made.close()


def files_in(kind: str, folder: Path, s3: str) -> Files:
    """A place for files, on disk or in the bucket under a prefix of its own."""
    where = Bucket(NAME, folder.name, s3, "eu-central-1", "key", "secret")
    made = Files(folder, max_bytes=MAX, blobs=S3Blobs(where, folder) if kind == "s3" else None)
    made.open()
    return made


@pytest.fixture(params=["disk", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path, s3: str) -> Files:
    return files_in(request.param, tmp_path / "media", s3)


@pytest.fixture
def disk(tmp_path: Path) -> Files:
    return files_in("disk", tmp_path / "media", "")


async def put(files: Files, content: bytes) -> bytes:
    """Have these bytes kept, without any row; gives their hash."""
    async with files.receiving() as incoming:
        await incoming.write(content)
        return (await incoming.keep()).sha256


async def read(files: Files, sha256: bytes, start: int, stop: int) -> bytes:
    """Part of what is kept."""
    return b"".join([piece async for piece in files.blobs.read(sha256, start, stop)])


# Where bytes lie ------------------------------------------------------------------------------------------------------


async def test_bytes_lie_under_their_hash_and_once(files: Files, tmp_path: Path) -> None:
    content = random.Random(7).randbytes(6_000_000)  # more than one part of an upload, and one piece of a read
    sha256 = hashlib.sha256(content).digest()
    assert not await files.blobs.exists(sha256)
    assert await asyncio.gather(*(put(files, content) for _ in range(3))) == [sha256] * 3
    assert await files.blobs.exists(sha256)
    assert await read(files, sha256, 0, len(content)) == content
    assert await read(files, sha256, 4_190_000, 4_200_000) == content[4_190_000:4_200_000]
    async with files.blobs.as_path(sha256) as path:
        assert path.read_bytes() == content
    await put(files, b"")
    folder = sha256[0]
    assert sha256 in await files.blobs.list_old(folder, -60)
    assert await files.blobs.list_old(folder, 60) == []
    assert await files.blobs.list_old((folder + 1) % FOLDERS, -60) == []
    for _ in range(2):
        await files.blobs.delete(sha256)
    assert not await files.blobs.exists(sha256)
    with pytest.raises(BlobMissing):
        await read(files, sha256, 0, 10)
    with pytest.raises(BlobMissing):
        async with files.blobs.as_path(sha256):
            pass
    assert list((tmp_path / "media").glob(".part-*")) == []


async def test_a_bucket_that_is_not_there_is_trouble_not_absence(tmp_path: Path, s3: str) -> None:
    files = Files(tmp_path, max_bytes=MAX, blobs=S3Blobs(Bucket("none", "", s3, "eu-central-1", "a", "b"), tmp_path))
    files.open()
    with pytest.raises(Unavailable, match="bucket"):
        await put(files, b"x")


# Fetching -------------------------------------------------------------------------------------------------------------


@dataclass
class Shelf:
    """A provider that keeps files by id: bytes, or what fetching them raises. Counts who asks."""

    files: dict[str, bytes | Exception] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    hold: asyncio.Event | None = None
    announced: int | None = None

    @asynccontextmanager
    async def open_media(self, wanted: MediaRef) -> AsyncIterator[MediaStream]:
        """As a provider does."""
        name = str(wanted.provider_id)
        self.asked[name] += 1
        found = self.files[name]
        if isinstance(found, Exception):
            raise found

        async def pieces() -> AsyncIterator[bytes]:
            yield found[:3]
            if self.hold:
                await self.hold.wait()
            yield found[3:]

        yield MediaStream("image/png", self.announced or len(found), None, pieces())


@pytest.fixture
async def sender_id(database_url: str) -> int:
    number = await ask(database_url, "insert into number (e164) values ('+15550001111') returning id")
    columns = "number_id, medium, provider, external_id"
    sql = f"insert into sender ({columns}) values ($1, 'whatsapp', 'meta', '1') returning id"
    return int(await ask(database_url, sql, number))


async def take_in(database: Database, sender_id: int, *names: str, sha256: str | None = None) -> dict[str, UUID]:
    """Messages that name these files of the provider's were stored; gives the files' ids."""
    noted, now, ids = InboundMedia(), datetime.now(UTC), {}
    for name in names:
        entry = {"id": name, "mime_type": "image/png", **({"sha256": sha256} if sha256 else {})}
        item = MessageReceived(
            key=f"meta:{name}", sender=META, customer=Customer(phone="+491511"), provider_id=name, at=None,
            type="image", content={"media": [entry]},
        )  # fmt: skip
        (shown,) = noted.name(item, sender_id, now)["media"]
        ids[name] = UUID(shown["id"].removeprefix("med_"))
        assert name not in shown.values()
        for _ in range(2):  # two channels
            assert noted.name(item, sender_id, now)["media"] == [shown]
            noted.note(item, new_id())
    async with database.transaction() as conn:
        await noted.save(conn)
    async with database.transaction() as conn:
        await noted.save(conn)  # a repetition changes nothing
    return ids


@asynccontextmanager
async def vault(database: Database, files: Files, shelf: Shelf, **more: Any) -> AsyncIterator[MediaVault]:
    """A vault that runs."""
    settings: dict[str, Any] = {"concurrency": 4, "refused": ("text/html",), **more}
    made = MediaVault(database, {"meta": cast("Provider", shelf)}, files, **settings)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def all_are(database_url: str, state: str, count: int) -> None:
    """Wait until so many files are in this state."""
    await until(lambda: is_so(database_url, state, count))


async def is_so(database_url: str, state: str, count: int) -> bool:
    return bool(await ask(database_url, "select count(*) = $2 from media where state = $1", state, count))


async def test_each_file_is_fetched_once_by_several_vaults_and_same_bytes_are_kept_once(
    database: Database, database_url: str, sender_id: int, disk: Files, tmp_path: Path
) -> None:
    contents = {f"f{n}": b"picture %d" % (n % 7) for n in range(40)}
    shelf = Shelf(dict(contents))
    ids = await take_in(database, sender_id, *contents)
    async with vault(database, disk, shelf), vault(database, disk, shelf), vault(database, disk, shelf):
        await all_are(database_url, "kept", 40)
    assert set(shelf.asked.values()) == {1}
    kept = [path for path in (tmp_path / "media").rglob("*") if path.is_file()]
    assert {path.name for path in kept} == {hashlib.sha256(b"picture %d" % n).hexdigest() for n in range(7)}
    async with database.reading() as conn:
        rows = await media.list_media(conn, ids.values())
    for name, media_id in ids.items():
        assert rows[media_id]["sha256"] == hashlib.sha256(contents[name]).digest()
        assert rows[media_id]["next_at"] is None
    assert await ask(database_url, "select count(*) from message_media") == 80


OUTCOMES: list[tuple[bytes | Exception, str | None, int | None, str, str | None]] = [
    # what the provider has or says, the hash and the size it announced, what becomes of the file, and why
    (b"good", hashlib.sha256(b"good").hexdigest(), None, "kept", None),
    (NotTaken("provider_unreachable", "away"), None, None, "pending", "provider_unreachable"),
    (NotTaken("throttled", "slow", retry_after=900), None, None, "pending", "throttled"),
    (NotTaken("throttled", "slow", retry_after=float("inf")), None, None, "pending", "throttled"),
    (RuntimeError("a fault of ours"), None, None, "pending", "internal"),
    (b"bad", hashlib.sha256(b"good").hexdigest(), None, "pending", "media_hash_mismatch"),
    (b"short", None, 99, "pending", "media_incomplete"),
    (b"", None, None, "pending", "media_incomplete"),
    (b"long", None, MAX + 1, "unavailable", "media_too_large"),
    (b"x" * (MAX + 1), None, 1, "unavailable", "media_too_large"),
    (Refused("media_unavailable", "gone"), None, None, "unavailable", "media_unavailable"),
    (Refused("media_host_refused", "elsewhere"), None, None, "unavailable", "media_host_refused"),
]


async def test_a_failure_is_tried_again_a_refusal_is_not(
    database: Database, database_url: str, sender_id: int, disk: Files, tmp_path: Path
) -> None:
    looked = "select state || coalesce(' ' || error, '') from media where id = $1"
    for number, (found, sha256, size, state, error) in enumerate(OUTCOMES):
        shelf = Shelf({str(number): found}, announced=size)
        ((_, media_id),) = (await take_in(database, sender_id, str(number), sha256=sha256)).items()
        wanted = f"{state} {error}" if error else state
        async with vault(database, disk, shelf):
            await until(lambda: is_now(database_url, looked, media_id, wanted))  # noqa: B023  awaited at once
        pause = await ask(database_url, "select next_at - now() from media_fetch where media_id = $1", media_id)
        if state == "pending":
            asked = getattr(found, "retry_after", None) or 0
            least, most = (min(asked, 3600) - 10, min(asked, 3600) + 1) if asked else (0, 3)
            assert timedelta(seconds=least) < pause < timedelta(seconds=most), error
            await ask(
                database_url, "update media_fetch set next_at = now(), attempts = 10 where media_id = $1", media_id
            )
            async with vault(database, disk, shelf):
                await until(lambda: is_now(database_url, looked, media_id, f"unavailable {error}"))  # noqa: B023
        assert await ask(database_url, "select next_at from media_fetch where media_id = $1", media_id) is None
    assert [p.name for p in (tmp_path / "media").rglob("*") if p.is_file()] == [hashlib.sha256(b"good").hexdigest()]


async def is_now(database_url: str, sql: str, media_id: UUID, wanted: str) -> bool:
    return bool(await ask(database_url, sql, media_id) == wanted)


async def test_what_a_stopped_vault_had_begun_the_next_one_fetches(
    database: Database, database_url: str, sender_id: int, disk: Files
) -> None:
    shelf = Shelf({"a": b"some file"}, hold=asyncio.Event())
    media_id = (await take_in(database, sender_id, "a"))["a"]
    async with vault(database, disk, shelf):
        await until(lambda: shelf.asked["a"])
        for _ in range(3):  # whoever asks for it meanwhile begins no other fetch
            async with database.transaction() as conn:
                assert await media_fetches.refetch(conn, media_id)
        leased = await ask(database_url, "select next_at > now() + interval '4 minutes' from media_fetch")
        assert leased
    shelf.hold = None
    async with vault(database, disk, shelf):
        await all_are(database_url, "kept", 1)
    assert shelf.asked["a"] == 2

    # One that was killed leaves its lease, and that ends.
    await take_in(database, sender_id, "a2")
    shelf.files["a2"] = b"other"
    await ask(
        database_url,
        "update media_fetch set next_at = now() + interval '1 hour', attempts = 1 where next_at is not null",
    )
    async with vault(database, disk, shelf):
        await ask(database_url, "update media_fetch set next_at = now() where next_at is not null")
        await all_are(database_url, "kept", 2)


async def test_erased_while_it_is_fetched_nothing_comes_back(
    database: Database, database_url: str, sender_id: int, files: Files
) -> None:
    shelf = Shelf({"a": b"secret of a customer"}, hold=asyncio.Event())
    ((_, media_id),) = (await take_in(database, sender_id, "a")).items()
    async with vault(database, files, shelf):
        await until(lambda: shelf.asked["a"])
        await ask(database_url, "update media set state = 'erased', sha256 = null where id = $1", media_id)
        await ask(database_url, "delete from media_fetch")
        assert shelf.hold
        shelf.hold.set()
        sha256 = hashlib.sha256(b"secret of a customer").digest()
        await until(lambda: absent(files, sha256))
    assert await ask(database_url, "select state from media") == "erased"


async def absent(files: Files, sha256: bytes) -> bool:
    return not await files.blobs.exists(sha256)


# Giving files to providers --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("sender_id")
async def test_messages_that_need_the_same_upload_at_once_share_it(
    database: Database, database_url: str, files: Files
) -> None:
    media_id = await keep_one(database, files, await add_service(database_url), b"a logo")
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    uploads = []

    class Uploader:
        supports = {"whatsapp": frozenset({"upload"})}  # noqa: RUF012

        async def upload(self, wanted: Upload) -> str:
            """As a provider does."""
            uploads.append(wanted.path.read_bytes())
            return await answer

    desk = MediaDesk(database, {"meta": cast("Provider", Uploader())}, files, MediaLinks("https://x", ["key"]))
    content = {"media": [{"id": f"med_{media_id.hex}" if media_id else ""}]}
    message = OutboundMessage("msg_1", "whatsapp", "1", "+491511", None, "image", content)
    tasks = [asyncio.create_task(desk.prepare("meta", message)) for _ in range(3)]
    await until(lambda: uploads)
    tasks[0].cancel()
    answer.set_result("4711")
    _, *ready = await asyncio.gather(*tasks, return_exceptions=True)
    assert [made.media[0].provider_id for made in ready if isinstance(made, OutboundMessage)] == ["4711", "4711"]
    assert uploads == [b"a logo"]
    assert (await desk.prepare("meta", message)).media[0].provider_id == "4711"
    assert uploads == [b"a logo"]


# Ending ---------------------------------------------------------------------------------------------------------------


async def keep_one(database: Database, files: Files, service_id: UUID, content: bytes) -> UUID | None:
    """Upload a file; None where the same bytes were removed at that moment, and it is to be sent again."""
    try:
        async with files.receiving() as incoming:
            await incoming.write(content)
            async with keeping(database, files, incoming) as (conn, kept):
                draft = MediaDraft(new_id(), service_id, "image/png", "a.png", kept.size, kept.sha256)
                await media.add_media(conn, draft, datetime.now(UTC))
                return draft.id
    except (Unavailable, TryAgain):
        return None


async def test_bytes_go_with_their_last_row_and_never_from_under_a_new_one(
    database: Database, database_url: str, files: Files
) -> None:
    """Many send the same file while others end it: whatever is kept has its bytes, and at the end nothing is left."""
    content = b"the one that everybody sends"
    sha256 = hashlib.sha256(content).digest()
    service = await add_service(database_url)
    chance = random.Random(11)
    live: list[UUID] = []
    kept = 0

    async def sends() -> None:
        nonlocal kept
        await asyncio.sleep(chance.random() / 100)
        if media_id := await keep_one(database, files, service, content):
            kept += 1
            assert await files.blobs.exists(sha256) or media_id not in live
            live.append(media_id)

    async def ends() -> None:
        await asyncio.sleep(chance.random() / 100)
        gone = [live.pop() for _ in range(len(live))]
        async with database.transaction() as conn:
            await conn.execute("update media set state = 'expired' where id = any($1::uuid[])", gone)
        await remove_unnamed(database, files, [sha256])

    for _ in range(10):
        await asyncio.gather(*(chance.choice((sends, sends, ends))() for _ in range(8)))
        named = bool(await ask(database_url, "select count(*) from media where state = 'kept'"))
        assert await files.blobs.exists(sha256) or not named
    assert kept > 10
    await ends()
    assert not await files.blobs.exists(sha256)


async def add_service(database_url: str) -> UUID:
    sql = "insert into service (id, name, plan, scopes) values ($1, 'crm', 'bundle', '{reply}') returning id"
    return UUID(str(await ask(database_url, sql, new_id())))


async def test_old_files_end_and_abandoned_bytes_are_swept(
    database: Database, database_url: str, sender_id: int, files: Files
) -> None:
    service = await add_service(database_url)
    shelf = Shelf({"old": b"same bytes", "new": b"same bytes", "alone": b"only once"})
    ids = await take_in(database, sender_id, *shelf.files)
    async with vault(database, files, shelf):
        await all_are(database_url, "kept", 3)
    uploads = {name: await keep_one(database, files, service, name.encode()) for name in ("used", "unused", "waiting")}
    await ask(database_url, "update media set created_at = now() - interval '40 days' where id <> $1", ids["new"])
    for name, age, status in (("used", 3, "delivered"), ("waiting", 39, "queued"), ("unused", 39, "delivered")):
        await add_message(database_url, uploads[name], age, status)
    async with database.transaction() as conn:
        gone = await media_endings.expire_received(conn, timedelta(days=30))
        gone += await media_endings.expire_uploads(conn, timedelta(days=30))
    assert {row["id"] for row in gone} == {ids["old"], ids["alone"], uploads["unused"]}
    assert await remove_unnamed(database, files, {row["sha256"] for row in gone}) == 2
    left = {b"same bytes": True, b"only once": False, b"used": True, b"unused": False, b"waiting": True}
    for content, is_there in left.items():
        assert await files.blobs.exists(hashlib.sha256(content).digest()) == is_there, content
    async with database.transaction() as conn:
        again = await media_endings.expire_received(conn, timedelta(days=30))
        assert again + await media_endings.expire_uploads(conn, timedelta(days=30)) == []

    # A process was killed between the bytes and the row.
    lost = await put(files, b"nobody's")
    assert [await sweep(database, files, lost[0], age) for age in (3600, -60, -60)] == [0, 1, 0]
    assert not await files.blobs.exists(lost)
    for folder in {hashlib.sha256(content).digest()[0] for content in left}:
        assert await sweep(database, files, folder, -60) == 0


async def test_the_janitor_ends_what_is_old_enough(
    database: Database, database_url: str, sender_id: int, disk: Files, tmp_path: Path
) -> None:
    shelf = Shelf({"old": b"old", "new": b"new"})
    ids = await take_in(database, sender_id, *shelf.files)
    async with vault(database, disk, shelf):
        await all_are(database_url, "kept", 2)
    upload = await keep_one(database, disk, await add_service(database_url), b"upload")
    await ask(database_url, "update media set created_at = now() - interval '8 days' where id <> $1", ids["new"])
    house = Janitor(
        database, inbound_key_days=30, event_retention_days=30, attempt_retention_days=14, files=disk,
        media_retention_days=7, media_upload_retention_days=9,
    )  # fmt: skip
    task = asyncio.create_task(house.run())
    try:
        await all_are(database_url, "expired", 1)
        await until(lambda: absent(disk, hashlib.sha256(b"old").digest()))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert upload
    names = {path.name for path in (tmp_path / "media").rglob("*") if path.is_file()}
    assert names == {hashlib.sha256(content).hexdigest() for content in (b"new", b"upload")}
    assert await ask(database_url, "select count(*) from media_fetch where media_id = $1", ids["old"]) == 0


async def add_message(database_url: str, media_id: UUID | None, days: int, status: str) -> None:
    """A message with this file was written so long ago."""
    columns = "id, number_id, channel_id, conversation_id, sequence, direction, medium, type, origin, content, provider"
    await ask(
        database_url,
        f"""with c as (
            select n.id as number_id, gen_random_uuid() as channel_id, gen_random_uuid() as conversation_id, s.id as by
            from number n, service s
        ), m as (
            insert into message ({columns}, created_at, status, author_service_id)
            select gen_random_uuid(), number_id, channel_id, conversation_id, 1, 'outbound', 'whatsapp', 'image',
                   'agent', '{{}}', 'meta', now() - make_interval(days => $2), $3, by from c returning id)
        insert into message_media select id, $1 from m""",
        media_id, days, status,
    )  # fmt: skip


# A hub on a bucket ----------------------------------------------------------------------------------------------------


async def test_a_hub_keeps_its_files_in_a_bucket(database_url: str, tmp_path: Path, s3: str) -> None:
    settings = {
        "media_store": f"s3://{NAME}/of/the/hub",
        "s3_endpoint": s3,
        "s3_region": "eu-central-1",
        "s3_access_key": "key",
        "s3_secret_key": "secret",
    }
    content = bytes(range(256)) * 20_000
    async with world(database_url, tmp_path, **settings) as hub:
        (crm,) = await hub.connected("crm")
        mia = hub.customer(MIA)
        conversation = await writes(mia, crm)
        auth = {"Authorization": f"Bearer {crm.key}", "Content-Type": "application/pdf"}
        async with hub.session.post(f"{hub.hub.url}/v1/media", data=io.BytesIO(content), headers=auth) as answer:
            made = await answer.json()
        sent = await automates(crm, conversation, "see", type="document", media={"id": made["id"]})
        assert sent.status == 202, sent
        await mia.hears()
        (kept,) = hub.simulator.uploads.values()
        assert kept.content == content
        await mia.sends_file("image", b"\x89PNG of Mia", "image/png")
        events = await crm.endpoint.hears("message.received", 2)
        for url, part in (
            (events[-1].data["message"]["media"][0]["url"], b"\x89PNG of Mia"[2:6]),
            ((await crm.call("GET", f"/v1/media/{made['id']}")).json["url"], content[2:6]),
        ):
            address = url.replace("https://hub.example.com", hub.hub.url)
            async with aiohttp.request("GET", address, headers={"Range": "bytes=2-5"}) as found:
                assert (found.status, await found.read()) == (206, part)
        contact = events[-1].data["contact"]["id"]
        files = files_in("s3", tmp_path / "media", s3)
        files.blobs = S3Blobs(Bucket(NAME, "of/the/hub", s3, "eu-central-1", "key", "secret"), tmp_path)
        hashes = [hashlib.sha256(b).digest() for b in (content, b"\x89PNG of Mia")]
        assert [await files.blobs.exists(sha256) for sha256 in hashes] == [True, True]
        assert (await hub.call("DELETE", f"/v1/admin/contacts/{contact}")).status == 200
        assert [await files.blobs.exists(sha256) for sha256 in hashes] == [False, False]
        assert [path for path in (tmp_path / "media").rglob("*") if path.is_file()] == []
