"""Provider bodies that went wrong on the way: mutated by seed, each with an intact message beside.

A case is what is posted, with a right signature; the intact message rides in the same body where a body can hold two
items and the mutation leaves that to be seen, else in one of its own. It must be stored exactly once, whatever became
of its neighbour.
"""

import asyncio
import copy
import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from providers.simulator.signing import sign_meta, sign_twilio
from tests.support.provider_samples import AT, METADATA, corpus_samples, meta_samples, twilio_samples
from tests.support.wire import FORM, META, PUBLIC_URL, TWILIO, Wire, connected
from tests.support.world import NUMBER

TWILIO_STATUS: Final = f"{TWILIO}/status"


@dataclass(frozen=True, slots=True)
class Post:
    """One signed body."""

    path: str
    body: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Case:
    """What is posted, one after the other, and the id of the intact message in it; `kind` says what it was."""

    kind: str
    posts: tuple[Post, ...]
    intact: str


# Mutations ----------------------------------------------------------------------------------------------------------

ODD: Final[tuple[Any, ...]] = (
    None, True, 0, -1, 1.5, 10**30, "", " ", "x", "0", "\0", "\ud800", "\u202e\U0001f600", "9" * 40, "a" * 9000, [], {},
    [None], [[]], {"": ""}, {"id": None}, ["x", 1], "1790000000", "2999999999", {"a": {"b": [{"c": 1}]}}, "wamid.0",
    "+4915112345678", "not json", "message",
)  # fmt: skip


def _deep(rng: random.Random) -> Any:
    value: Any = "deep"
    for _ in range(rng.choice((70, 200, 400))):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def _places(value: Any) -> Iterable[tuple[Any, Any]]:
    """Every place in a document: its container and its key or index."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in list(items):
        yield value, key
        yield from _places(part)


def mutate(rng: random.Random, document: Any) -> Any:
    """Between one and four changes of structure."""
    changed = copy.deepcopy(document)
    for _ in range(rng.randint(1, 4)):
        places = list(_places(changed))
        if not places:
            break
        holder, key = rng.choice(places)
        match rng.randrange(8):
            case 0:
                del holder[key]
            case 1 | 2:
                holder[key] = copy.deepcopy(rng.choice(ODD))
            case 3:
                holder[key] = [holder[key]] if rng.random() < 0.5 else {"a": holder[key]}
            case 4:
                other, name = rng.choice(places)
                if name in other if isinstance(other, dict) else name < len(other):
                    holder[key] = copy.deepcopy(other[name])
            case 5 if isinstance(holder, list):
                holder.insert(key, copy.deepcopy(rng.choice((holder[key], *ODD))))
            case 5 | 6 if isinstance(holder, dict):
                holder[rng.choice(("", "id", "type", "text", "messages", "x" * 300))] = holder.pop(key)
            case _:
                holder[key] = _deep(rng) if rng.random() < 0.2 else str(holder[key])[:500]
    return changed


def mutate_bytes(rng: random.Random, body: bytes) -> bytes:
    """Between one and six changes of bytes."""
    changed = bytearray(body)
    for _ in range(rng.randint(1, 6)):
        at, length = rng.randrange(len(changed) + 1), rng.randint(1, 30)
        match rng.randrange(6):
            case 0:
                del changed[at : at + length]
            case 1:
                changed[at:at] = rng.randbytes(length)
            case 2:
                changed[at:at] = changed[at : at + length]
            case 3:
                del changed[at:]
            case 4:
                changed[at : at + 1] = rng.choice(
                    (b"\0", b'"', b"\\", b"{", b"]", b"\xff", b"%", b"&", b"\\u0000", b"e9")
                )
            case _:
                changed[at : at + 1] = bytes([rng.randrange(256)])
    return bytes(changed)


# Cases --------------------------------------------------------------------------------------------------------------


def make_cases(count: int, seed: int, *, with_corpus: bool = True) -> list[Case]:
    """So many cases, the same for the same seed."""
    rng = random.Random(seed)
    meta = [*meta_samples(), *(corpus_samples() if with_corpus else ())]
    twilio = twilio_samples()
    return [
        _meta_case(rng, number, *meta[number % len(meta)])
        if number % 4
        else _twilio_case(rng, number, *rng.choice(twilio))
        for number in range(count)
    ]


def _meta_case(rng: random.Random, number: int, field: str, kind: str, value: Any) -> Case:
    change = {"field": field, "value": _numbered(value, number)}
    entry = {"id": "9000", "time": 1790000009, "changes": [change]}
    name = f"meta {field} {kind}"
    intact = {"field": "messages", "value": _intact_value(number)}
    if rng.random() < 0.3:
        body = mutate_bytes(rng, _dumps({"object": "whatsapp_business_account", "entry": [entry]}))
        alone = _dumps({"entry": [{"id": "9000", "changes": [intact]}]})
        kinds = rng.choices(("application/json", "text/plain", "", "application/json; charset=bogus"), (9, 1, 1, 1))
        posts = [Post(META, body, kinds[0]), Post(META, alone, "application/json")]
        rng.shuffle(posts)
        return Case(f"{name} bytes", tuple(posts), _intact_id(number))
    where = rng.choice(("entry", "change", "list"))
    changed = mutate(rng, entry)
    if where == "change" and isinstance(changed, dict) and isinstance(changed.get("changes"), list):
        changed["changes"].insert(rng.randint(0, len(changed["changes"])), intact)
        entries = [changed]
    elif where == "list":
        message = intact["value"]["messages"][0]
        listed = {
            "field": "messages",
            "value": intact["value"] | {"messages": [mutate(rng, message | {"id": f"wamid.m{number}"}), message]},
        }
        entries = [changed, {"id": "9000", "changes": [listed]}]
    else:
        entries = [changed, {"id": "9000", "changes": [intact]}]
        rng.shuffle(entries)
    body = _dumps({"object": "whatsapp_business_account", "entry": entries})
    return Case(f"{name} {where}", (Post(META, body, "application/json"),), _intact_id(number))


def _twilio_case(rng: random.Random, number: int, kind: str, params: dict[str, str]) -> Case:
    named = {key: f"{value}{number}" if key == "MessageSid" else value for key, value in params.items()}
    path = TWILIO_STATUS if "MessageStatus" in params else TWILIO
    pairs = list(named.items())
    is_json = rng.random() < 0.2
    if is_json:
        body = _dumps(mutate(rng, named))
    else:
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(pairs))
            odd = rng.choice([value for value in ODD if isinstance(value, str)])
            pairs[at] = rng.choice(((pairs[at][0], odd), (odd, pairs[at][1]), rng.choice(pairs)))
            if rng.random() < 0.3 and len(pairs) > 1:
                pairs.pop(rng.randrange(len(pairs)))
        body = urlencode(pairs, errors="surrogatepass").encode()
    if rng.random() < 0.4:
        body = mutate_bytes(rng, body)
    intact = {
        "MessageSid": f"SM.intact.{number}",
        "From": f"+49151{number:08d}",
        "To": NUMBER,
        "Body": f"intact {number}",
        "NumMedia": "0",
    }
    posts = [Post(path, body, "application/json" if is_json else FORM), Post(TWILIO, urlencode(intact).encode(), FORM)]
    rng.shuffle(posts)
    return Case(f"twilio {kind}", tuple(posts), intact["MessageSid"])


def _numbered(value: Any, number: int) -> Any:
    """The same with ids of its own, so that no case repeats another."""
    text = json.dumps(value)
    for sign in ("wamid.X", "wamid.Y", "wamid.Z", "wamid.O", "wacid.X"):
        text = text.replace(f'"{sign}"', f'"{sign}{number}"')
    return json.loads(text)


def _intact_id(number: int) -> str:
    return f"wamid.intact.{number}"


def _intact_value(number: int) -> dict[str, Any]:
    message = {
        "from": f"49152{number:08d}", "id": _intact_id(number), "timestamp": AT, "type": "text",
        "text": {"body": f"intact {number}"},
    }  # fmt: skip
    return {"messaging_product": "whatsapp", "metadata": METADATA, "messages": [message]}


def _dumps(value: Any) -> bytes:
    return (
        json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
        if _is_clean(value)
        else json.dumps(value).encode()
    )


def _is_clean(value: Any) -> bool:
    return "\ud800" not in json.dumps(value, ensure_ascii=False)


# Posting ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Findings:
    """What the hub answered, by status, and what was wrong: the kinds of the cases whose answers are not allowed."""

    answers: Counter[int]
    wrong: list[tuple[int, str, bytes]]


async def post_all(wire: Wire, cases: Sequence[Case], at_once: int = 8) -> Findings:
    """Post everything, some cases at a time."""
    found = Findings(Counter(), [])
    queue = iter(cases)

    async def work() -> None:
        for case in queue:
            for post in case.posts:
                status = await _post(wire, post)
                found.answers[status] += 1
                if status not in (200, 413):
                    found.wrong.append((status, case.kind, post.body[:300]))

    await asyncio.gather(*(work() for _ in range(at_once)))
    return found


async def _post(wire: Wire, post: Post) -> int:
    headers = {"Content-Type": post.content_type} if post.content_type else {}
    simulator, path = wire.world.simulator, post.path
    if path == META:
        headers["X-Hub-Signature-256"] = sign_meta(post.body, simulator.meta_app_secrets[0])
    else:
        form: list[tuple[str, str]] = []
        if post.content_type == FORM:
            form = parse_qsl(post.body.decode("utf-8", "replace"), keep_blank_values=True)
        else:
            path += f"?bodySHA256={hashlib.sha256(post.body).hexdigest()}"
        headers["X-Twilio-Signature"] = sign_twilio(PUBLIC_URL + path, form, simulator.twilio_auth_token)
    return (await wire.post(path, post.body, headers)).status


async def stored_once(database_url: str, cases: Sequence[Case]) -> dict[str, int]:
    """How often the intact messages were stored, where that is not once."""
    async with connected(database_url) as conn:
        rows = await conn.fetch(
            """select w.id, (select count(*) from message m where m.provider_id = w.id) as times
               from unnest($1::text[]) as w (id)""",
            [case.intact for case in cases],
        )
    return {row["id"]: row["times"] for row in rows if row["times"] != 1}


async def quarantined(database_url: str) -> dict[str, int]:
    """What was kept, by reason."""
    async with connected(database_url) as conn:
        return {
            row["reason"]: row["n"]
            for row in await conn.fetch("select reason, count(*) as n from quarantine group by reason order by reason")
        }
