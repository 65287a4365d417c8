"""Which addresses customers' files may be fetched from, and what answers mean (rule E10)."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from providers.base import NotTaken, OutcomeUnknown, Refused
from providers.fetching import Hosts, filename_of, may_work_later, meaning_of, seconds_of, size_of
from providers.twilio.media import API, KEPT
from providers.whatsapp_cloud.media import HOSTS

META = Hosts(HOSTS, own="https://graph.facebook.com/v23.0")
LOCAL = Hosts(HOSTS, own="http://127.0.0.1:9000")
TWILIO = Hosts(KEPT)


@pytest.mark.parametrize(
    ("hosts", "url"),
    [
        (META, "https://lookaside.fbsbx.com/whatsapp_business/attachments/?mid=1&ext=2&hash=A-b_c"),
        (META, "https://LOOKASIDE.fbsbx.com:443/x"),
        (META, "https://lookaside.fbsbx.com"),
        (META, "https://scontent.xx.fbcdn.net/v/t1.2-3/f.jpg?_nc_ht=x&oe=5#f"),
        (META, "https://mmg.whatsapp.net/x"),
        (META, "https://graph.facebook.com/v23.0/1"),
        (LOCAL, "http://127.0.0.1:9000/whatsapp_business/attachments/?mid=1"),
        (TWILIO, "https://api.twilio.com/2010-04-01/Accounts/AC1/Messages/MM1/Media/ME1"),
        (TWILIO, "https://mms.twiliocdn.com/AC1/f?Expires=1&Signature=x~y_&Key-Pair-Id=z"),
        (TWILIO, "https://media.twiliocdn.com/AC1/f"),
        (TWILIO, "https://s3-external-1.amazonaws.com/media.twiliocdn.com/AC1/f"),
        (API, "https://api.twilio.com/x"),
    ],
)
def test_where_files_may_be(hosts: Hosts, url: str) -> None:
    assert hosts.allow(url)
    assert hosts.check(url) == url


@pytest.mark.parametrize("hosts", [META, LOCAL, TWILIO, API], ids=["meta", "local", "twilio", "api"])
@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://evil.example/",
        "http://lookaside.fbsbx.com/x",
        "http://api.twilio.com/x",
        "ftp://api.twilio.com/x",
        "//api.twilio.com/x",
        "/x",
        "https://lookaside.fbsbx.com.evil.example/x",
        "https://api.twilio.com.evil.example/x",
        "https://evillookaside.fbsbx.com/x",
        "https://fbcdn.net.evil.example/x",
        "https://evilfbcdn.net/x",
        "https://eviltwiliocdn.com/x",
        "https://fbcdn.net/x",
        "https://lookaside.fbsbx.com@evil.example/x",
        "https://api.twilio.com@evil.example/x",
        "https://api.twilio.com:pw@evil.example/x",
        "https://user:pw@lookaside.fbsbx.com/x",
        "https://user@api.twilio.com/x",
        "https://lookaside.fbsbx.com:8443/x",
        "https://api.twilio.com:80/x",
        "https://lookaside.fbsbx.com./x",
        "https://lookaside.fbsbx.com\\@evil.example/x",
        "https://evil.example\\.fbcdn.net/x",
        "https://lookaside.fbsbx.com\t/x",
        " https://lookaside.fbsbx.com/x",
        "https://lookaside.fbsbx.com/x\r\nHost: evil.example",
        "https://lookaside.fbsbx.com/ü",
        "https://lookaside\u3002fbsbx.com/x",
        "https://ⓛookaside.fbsbx.com/x",
        "https://[::1]/x",
        "https://127.0.0.1/x",
        "https://2130706433/x",
        "https://169.254.169.254/latest/meta-data",
        "http://127.0.0.1:9000@evil.example/",
        "http://127.0.0.1:90001/",
        "http://127.0.0.1:9000.evil.example/",
        "http://127.0.0.1:9000\\@evil.example/",
        "http://127.0.0.1/",
        "https://127.0.0.1:9000/",
        "https://lookaside.fbsbx.com/" + "x" * 9000,
        "javascript:alert(1)",
    ],
)
def test_where_nothing_is_fetched_from(hosts: Hosts, url: str) -> None:
    assert not hosts.allow(url)
    with pytest.raises(Refused) as caught:
        hosts.check(url)
    assert caught.value.code == "media_host_refused"


@pytest.mark.parametrize(
    "url",
    [
        "https://evilapi.twilio.com/x",
        "https://x.api.twilio.com/x",
        "https://media.twiliocdn.com/x",
        "https://s3-external-1.amazonaws.com/x",
    ],
)
def test_twilio_s_credentials_are_for_its_api_alone(url: str) -> None:
    assert not API.allow(url)


@pytest.mark.parametrize("location", ["http://[", "//[::1", "https://evil.example", "\\\\evil.example/x", "//e:x/"])
def test_redirects_are_held_to_the_same(location: str) -> None:
    with pytest.raises(Refused, match="media_host_refused"):
        META.follow("https://lookaside.fbsbx.com/x", location)
    assert META.follow("https://lookaside.fbsbx.com/x", "/y?z") == "https://lookaside.fbsbx.com/y?z"


def test_no_address_is_refused_too() -> None:
    with pytest.raises(Refused, match="media_host_refused"):
        META.check(None)


PARTS = st.sampled_from(
    ["https://", "http://", "lookaside.fbsbx.com", "127.0.0.1:9000", "evil.example", "@", ":", "/", "\\", "?", "#", ".",
     "%40", "%2f", "x.fbcdn.net", ":443", "\t", "ü"]
)  # fmt: skip


@given(st.lists(PARTS, max_size=8).map("".join) | st.text())
def test_what_is_allowed_is_one_host_for_every_parser(url: str) -> None:
    if not LOCAL.allow(url):
        return
    host = httpx.URL(url).host
    assert host == URL(url, encoded=True).host
    assert host in ("lookaside.fbsbx.com", "127.0.0.1") or host.endswith(".fbcdn.net")


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (404, Refused, "media_unavailable"),
        (410, Refused, "media_unavailable"),
        (400, NotTaken, "refused"),
        (401, NotTaken, "token_revoked"),
        (403, NotTaken, "permission_denied"),
        (429, NotTaken, "throttled"),
        (204, NotTaken, "refused"),
        (304, NotTaken, "refused"),
        (500, NotTaken, "provider_unavailable"),
        (503, NotTaken, "provider_unavailable"),
    ],
)
def test_what_an_answer_means(status: int, error: type[Exception], code: str) -> None:
    meaning = meaning_of(status, "7")
    assert type(meaning) is error
    assert meaning is not None
    assert meaning.code == code
    assert getattr(meaning, "retry_after", None) == (7.0 if status == 429 else None)


def test_a_file_comes_with_200() -> None:
    assert meaning_of(200, None) is None


def test_what_changes_nothing_can_be_asked_again() -> None:
    later = may_work_later(OutcomeUnknown("timeout", "ReadTimeout", provider_code="5"))
    assert (type(later), later.code, later.detail, later.provider_code) == (NotTaken, "timeout", "ReadTimeout", "5")
    throttled = NotTaken("throttled", retry_after=3.0)
    assert may_work_later(throttled) is throttled


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (None, None),
        ("", None),
        ("inline", None),
        ('attachment; filename="a b.pdf"', "a b.pdf"),
        ("attachment; filename=a.pdf", "a.pdf"),
        ("attachment; filename*=UTF-8''%C3%BC.pdf", "ü.pdf"),
        ("attachment; filename*=nonsense''%FF.pdf", "ÿ.pdf"),
        ('attachment; filename="a\r\nX: y"', "a  X: y"),
    ],
)
def test_names_of_files(header: str | None, name: str | None) -> None:
    assert filename_of(header) == name


@given(st.text())
def test_any_header(header: str) -> None:
    assert filename_of(header) is None or filename_of(header)
    for number in (size_of(header), seconds_of(header)):
        assert number is None or number >= 0
