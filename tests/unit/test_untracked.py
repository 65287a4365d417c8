"""Which links stay as they are, and why."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.link_targets import check_target
from hub.domain.untracked import why_untracked

HOST = "go.shop.example"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
DIGEST = "d41d8cd98f00b204e9800998ecf8427e"

TRACKED = [
    "", "/", "/a?b=c#d", "/menu.pdf", "/jpg", "/video/mp4", "/photo.jpg/", "/?file=a.jpg", "/#a.jpg", "/a.b.html",
    "/unsubscribed-users-tell", "/how-to-unsubscribe", "/stop-and-go", "/bus-stops", "/nonstop", "/?q=to+unsubscribe",
    "/?tokens=5", "/?discount=SUMMER10", "/?coupon=A1B2", "/?coded=1", "/?zipcode=10115", "/?design=1", "/?monkey=1",
    "/?expires=2026", f"/?fbclid={DIGEST}", f"/{DIGEST}", "/?gclid=EAIaIQobChMI-4_2", "/?a=eyJ", "/?a=eyJx.y",
    "/?utm_source=token", "/?to=https://wa.me/1", "/wa.me", "/verify", "/summer-offers-for-everybody?expires=2026",
    "/?expert=1&id=" + DIGEST, "?a", "#a",
]  # fmt: skip

UNTRACKED = {
    "opt_out": [
        "/unsubscribe", "/Unsubscribe/", "/UNSUBSCRIBE?id=1", "/mail/unsubscribe/abc", "/unsubscribe.php?u=1",
        "/opt-out", "/opt_out", "/OptOut", "/optout/", "/abmelden", "/newsletter/abmelden", "/abbestellen",
        "/desinscription", "/d%C3%A9sinscription", "/désinscription", "/se-d%C3%A9sabonner", "/darse-de-baja", "/baja",
        "/disiscriviti", "/cancelar-inscri%C3%A7%C3%A3o", "/afmelden", "/odhl%C3%A1sit", "/配信停止", "/退订",
        "/%D0%BE%D1%82%D0%BF%D0%B8%D1%81%D0%BA%D0%B0", "/stop", "/unsub;a=b", "/?unsubscribe=1", "/?opt-out",
        "/?a=b&optout=true", "/?action=unsubscribe", "/?do=abmelden", "/#unsubscribe", "/#/unsubscribe?id=1",
        "/unsubscribe?token=abc", "/?un%73ubscribe=1",
    ],
    "signed": [
        "/f?X-Amz-Signature=a&X-Amz-Expires=60", "/f?x-amz-security-token=a", "/f?X-Goog-Signature=a", "/f?Signature=a",
        "/f?Policy=a&Key-Pair-Id=b&Signature=c", "/f?sv=2024&sig=a%3D", "/?hmac=a", "/?sign=a", "/?SIG=1", "/?hdnts=1",
        "/?token=a", "/?access_token=a", "/?resetToken=a", "/?user[token]=a", "/?user%5Btoken%5D=a", "/?auth-token=a",
        "/?code=123456", "/cb?state=x&code=y", "/?oobCode=x", "/?otp=1234", "/?pin=1234", "/?key=a", "/?api_key=a",
        "/?password=a", "/?SAMLResponse=a", "/?nonce=a", "/a;jsessionid=1F", "/?PHPSESSID=1", "/?client_secret=a",
        "/#access_token=a&type=b", "/#/login?token=a", "/?a=1;token=b", "/?to%6ben=a", "/?token",
        f"/?a={JWT}", f"/s/{JWT}", f"/s/{JWT}/x", f"/#{JWT}", f"/?expires=1767225600&h={DIGEST}", f"/{DIGEST}?exp=1767",
        f"/f?md5={DIGEST}&expires=1", f"/f?X-My-Expires=1&h={DIGEST}", "/reset-password/x",
        "/magic-link/x", "/password_reset?u=1", "/verify-email/x",
    ],
    "media": [
        "/a.jpg", "/a.JPG", "/a.jpeg?w=100", "/a/b.png#x", "/a.webp;v=1", "/a.gif", "/a.mp4", "/a.mov", "/a.mp3",
        "/a.ogg", "/a.opus", "/a.3gp", "/a.min.svg", "/a.heic",
    ],
}  # fmt: skip


@pytest.mark.parametrize("rest", TRACKED, ids=ascii)
def test_an_ordinary_link_is_tracked(rest: str) -> None:
    assert why_untracked(f"https://www.shop.example{rest}", HOST) is None


@pytest.mark.parametrize("reason", UNTRACKED)
def test_a_link_that_must_stay_as_it_is(reason: str) -> None:
    rests = UNTRACKED[reason]
    assert {rest: why_untracked(f"HTTPS://www.shop.example{rest}", HOST) for rest in rests} == dict.fromkeys(
        rests, reason
    )


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mailto:a@shop.example", "not_http"),
        ("tel:+491711234567", "not_http"),
        ("sms:+491711234567", "not_http"),
        ("whatsapp://send?text=a", "not_http"),
        ("www.shop.example", "not_http"),
        ("", "not_http"),
        ("https://wa.me/491711234567", "messenger"),
        ("https://WA.ME/491711234567?text=a", "messenger"),
        ("https://www.wa.me/1", "messenger"),
        ("https://api.whatsapp.com/send?phone=1", "messenger"),
        ("https://chat.whatsapp.com/abc", "messenger"),
        ("https://api.whatsapp.com./send", "messenger"),
        ("https://mywa.me/1", None),
        ("https://wa.me.shop.example/1", None),
        ("https://notwhatsapp.com/", None),
        ("https://optout.shop.example/", "opt_out"),
        ("https://unsubscribe.shop.example/a", "opt_out"),
        (f"https://{HOST}/Ab3dE6gH9jK", "link_host"),
        (f"http://{HOST.upper()}:8080/a.jpg", "link_host"),
        (f"https://{HOST}./a", "link_host"),
        (f"https://{HOST}", "link_host"),
        (f"https://a.{HOST}/", None),
        (f"https://x{HOST}/", None),
        ("https://shop.example/", None),
        ("https://user@shop.example/", "target_refused"),
        (f"https://user@{HOST}/", "target_refused"),
        ("https://localhost/", "target_refused"),
        ("https://10.0.0.1/", "target_refused"),
        ("https://ex%61mple.com/", "target_refused"),
        ("https://shop.example/" + "a" * 2048, "target_refused"),
    ],
)
def test_by_host_and_scheme(url: str, reason: str | None) -> None:
    assert why_untracked(url, HOST) == reason


def test_a_link_host_in_any_spelling_and_on_a_private_name() -> None:
    assert why_untracked("https://go.xn--bcher-kva.example/a", "go.bücher.example") == "link_host"
    assert why_untracked("https://go.bücher.example/a", "GO.xn--bcher-kva.example.") == "link_host"
    assert why_untracked("http://go.shop.localhost:8080/a", "go.shop.localhost") == "link_host"
    assert why_untracked("http://www.shop.localhost/", "go.shop.localhost") == "target_refused"
    assert why_untracked("http://www.shop.localhost/", "go.shop.localhost", ["shop.localhost"]) is None


@given(st.text("ab./?#;&=%@:-_[]tokenué日", max_size=40) | st.text(max_size=40))
def test_what_may_be_tracked_is_a_target(rest: str) -> None:
    url = f"https://shop.example{rest}"
    if why_untracked(url, HOST) is None:
        assert check_target(url)
