"""How often a key may ask: one service that asks without end takes nothing from the others (rule H4)."""

import asyncio
from collections import Counter

from tests.support.talk import MIA, writes
from tests.support.world import Open


async def test_h4_each_key_has_its_requests_a_second(open_world: Open) -> None:
    made = await open_world(requests_per_second=2)
    fast, other = await made.connected("fast", "other")
    answers = await asyncio.gather(*(fast.call("GET", "/v1/numbers") for _ in range(40)))
    count = Counter(answer.status for answer in answers)
    assert set(count) == {200, 429}, count
    assert count[200] < count[429], count

    refused = next(answer for answer in answers if answer.status == 429)
    assert refused.headers["Content-Type"].startswith("application/problem+json")
    assert refused.headers["Retry-After"] == "1" == str(refused.json["retry_after"])
    assert (refused.json["code"], refused.json["limit"], refused.json["most"]) == (
        "too_many_requests", "requests_per_second", 2,
    )  # fmt: skip
    assert "(rule H4)" in refused.json["detail"]

    assert (await other.call("GET", "/v1/numbers")).status == 200, "another service's key"
    second = await made.call("POST", f"/v1/admin/services/{fast.id}/keys")
    assert (await made.call("GET", "/v1/numbers", key=second.json["api_key"])).status == 200, "another of its keys"
    await asyncio.sleep(refused.json["retry_after"])
    assert (await fast.call("GET", "/v1/numbers")).status == 200, "as promised"

    # What is refused does not reach the database: it would know that this key is none.
    unknown = await asyncio.gather(*(made.call("GET", "/v1/numbers", key="plk_none") for _ in range(40)))
    assert {answer.status for answer in unknown} == {401, 429}

    # The operator, providers and probes are not counted.
    mia = made.customer(MIA)
    calls = [made.call("GET", path) for path in ("/healthz", "/readyz", "/metrics", "/v1/admin/numbers") * 5]
    texts = [writes(mia, other, text=f"{n}") for n in range(5)]
    answers, _ = await asyncio.gather(asyncio.gather(*calls), asyncio.gather(*texts))
    assert {answer.status for answer in answers} == {200}
