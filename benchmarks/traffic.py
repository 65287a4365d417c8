"""Signed Meta webhooks, made ahead so that the generator spends nothing on them while it measures."""

import hashlib
import hmac
import itertools
import json
import time
from collections.abc import Iterator

from benchmarks.client import request_bytes
from benchmarks.servers import SECRET

NUMBER = "+15550009999"
PHONE_NUMBER_ID = "900000000000001"
_ids = itertools.count(1)


def body(customer: int, text: str) -> bytes:
    """One customer's text message as Meta posts it, about 600 bytes."""
    phone = f"49151{customer:08}"
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": NUMBER[1:], "phone_number_id": PHONE_NUMBER_ID},
        "contacts": [{"profile": {"name": f"Customer {customer}"}, "wa_id": phone}],
        "messages": [
            {
                "from": phone,
                "id": f"wamid.HBgNNDkxNTEyMzQ1Njc4FQIAEhgUM0Ew{next(_ids):016}",
                "timestamp": str(int(time.time())),
                "text": {"body": text},
                "type": "text",
            }
        ],
    }
    document = {
        "object": "whatsapp_business_account",
        "entry": [{"id": "800000000000001", "changes": [{"value": value, "field": "messages"}]}],
    }
    return json.dumps(document).encode()


def signed(payload: bytes) -> bytes:
    """The request, signed as Meta does."""
    digest = hmac.new(SECRET.encode(), payload, hashlib.sha256).hexdigest()
    headers = {"Content-Type": "application/json", "X-Hub-Signature-256": f"sha256={digest}"}
    return request_bytes("/webhooks/meta", headers, payload)


def ready_made(count: int, customers: int) -> list[bytes]:
    """So many requests, from so many customers in turn."""
    return [signed(body(n % customers, "Where is my order? It should have been here by now.")) for n in range(count)]


def stamped(customers: int) -> Iterator[bytes]:
    """Requests whose text starts with the time they were made."""
    for n in itertools.count():
        yield signed(body(n % customers, f"{time.perf_counter():.6f} is the time"))
