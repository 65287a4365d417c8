"""Places in a timeline that is sorted by the providers' times: a time and a sequence number, as one opaque word."""

import base64
import re
import zlib
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from hub.domain.errors import Invalid

_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_WORD: Final = re.compile("[A-Za-z0-9_-]{27}")
_NUMBER: Final = 8
_MICRO: Final = timedelta(microseconds=1)


class TimePlace(NamedTuple):
    """A message's place: its time, and among those of one time its sequence number."""

    at: datetime
    sequence: int


START: Final = TimePlace(datetime.min.replace(tzinfo=UTC), -(2**62))
"""Before all messages."""
END: Final = TimePlace(datetime.max.replace(tzinfo=UTC), 2**62)
"""Behind all of them."""


def encode(place: TimePlace) -> str:
    """A place as a word. It is checked so that a cut or mistyped one is told; it is no secret."""
    micros = (place.at - _EPOCH) // _MICRO
    content = b"".join(number.to_bytes(_NUMBER, "big", signed=True) for number in (micros, place.sequence))
    return base64.urlsafe_b64encode(content + zlib.crc32(content).to_bytes(4, "big")).rstrip(b"=").decode()


def decode(text: str) -> TimePlace:
    """Read a word of `encode` back. Raises `Invalid` (`invalid_cursor`) for every other word."""
    if _WORD.fullmatch(text):
        content = base64.urlsafe_b64decode(text + "=")
        micros, sequence = (int.from_bytes(content[at : at + _NUMBER], "big", signed=True) for at in (0, _NUMBER))
        if (START.at - _EPOCH) // _MICRO <= micros <= (END.at - _EPOCH) // _MICRO:
            place = TimePlace(_EPOCH + timedelta(microseconds=micros), sequence)
            if encode(place) == text:
                return place
    raise Invalid("this is no cursor that the hub has given out for a timeline by provider_time", code="invalid_cursor")
