"""Signed Meta webhooks, made ahead so that the generator spends little on them while it measures."""

import hashlib
import hmac
import itertools
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.client import request_bytes

SECRET = "bench-app-secret"
PATH = "/webhooks/meta"
_TEXT = "Where is my order? It should have been here by now."
_ids = itertools.count(1)


@dataclass(frozen=True)
class Line:
    """One number of the business, at Meta; each part of a run may have several."""

    index: int = 1

    @property
    def e164(self) -> str:
        """The number."""
        return f"+1555{self.index:07}"

    @property
    def phone_number_id(self) -> str:
        """Meta's name for it."""
        return f"{900_000_000_000_000 + self.index}"


def body(line: Line, messages: Iterable[tuple[int, str]]) -> bytes:
    """Text messages of customers as Meta posts them, about 700 bytes for one."""
    changes = [{"value": _value(line, customer, text), "field": "messages"} for customer, text in messages]
    return json.dumps(
        {"object": "whatsapp_business_account", "entry": [{"id": "800000000000001", "changes": changes}]}
    ).encode()


def _value(line: Line, customer: int, text: str) -> dict[str, object]:
    phone, user_id = f"49151{customer:08}", f"DE.{10**15 + customer}"
    message = {
        "from": phone,
        "from_user_id": user_id,
        "id": f"wamid.HBgNNDkxNTEyMzQ1Njc4FQIAEhgUM0Ew{next(_ids):016}",
        "timestamp": str(int(time.time())),
        "text": {"body": text},
        "type": "text",
    }
    return {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": line.e164[1:], "phone_number_id": line.phone_number_id},
        "contacts": [{"profile": {"name": f"Customer {customer}"}, "wa_id": phone, "user_id": user_id}],
        "messages": [message],
    }


def signed(payload: bytes) -> bytes:
    """The request, signed as Meta does."""
    digest = hmac.new(SECRET.encode(), payload, hashlib.sha256).hexdigest()
    headers = {"Content-Type": "application/json", "X-Hub-Signature-256": f"sha256={digest}"}
    return request_bytes(PATH, headers, payload)


def ready_made(line: Line, customers: Iterable[int]) -> list[bytes]:
    """One request with one message for each customer named, in that order."""
    return [signed(body(line, [(customer, _TEXT)])) for customer in customers]


def batches(line: Line, customers: Iterable[int], size: int = 50) -> list[bytes]:
    """The same, so many messages in one request."""
    parts = iter(customers)
    made = []
    while part := list(itertools.islice(parts, size)):
        made.append(signed(body(line, [(customer, _TEXT) for customer in part])))
    return made


def in_turn(count: int, customers: int) -> list[int]:
    """So many times a customer, all of them in turn."""
    return [n % customers for n in range(count)]


def stamped(line: Line, customers: int) -> Callable[[float], bytes]:
    """Makes requests whose text starts with the time they were due and the customer's number."""
    turn = itertools.count()

    def make(due: float) -> bytes:
        customer = next(turn) % customers
        return signed(body(line, [(customer, f"{due:.6f} {customer} is the time")]))

    return make
