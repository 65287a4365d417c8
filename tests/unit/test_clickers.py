"""Who made a request to a tracked link: agents as seen in logs, with their verdict for each medium."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from crawleruseragents import CRAWLER_USER_AGENTS_DATA
from hypothesis import given
from hypothesis import strategies as st

from hub.domain import clickers
from hub.domain.clickers import ClickFacts, Kind, classify, header_facts

ACCEPTED = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
AT = ACCEPTED + timedelta(seconds=30)
MEDIA = ("sms", "whatsapp", "email")

IOS = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
IPAD = "Mozilla/5.0 (iPad; CPU OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
ANDROID = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 "
WEBVIEW = (
    "Mozilla/5.0 (Linux; Android 14; Pixel 8 Build/AP2A.240905.003; wv) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Version/4.0 Chrome/130.0.6723.83 Mobile Safari/537.36"
)
WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 "
LINUX = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
IMESSAGE = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_11_1) AppleWebKit/601.2.4 (KHTML, like Gecko) Version/9.0.1 "
    "Safari/601.2.4 facebookexternalhit/1.1 Facebot Twitterbot/1.0"
)
SNIPPET = "Google (+https://developers.google.com/+/web/snippet/)"

PEOPLE = [
    # Browsers on telephones.
    IOS + "Version/18.5 Mobile/15E148 Safari/604.1",
    IOS + "Version/26.4 Mobile/15E148 Safari/604.1",
    IOS + "CriOS/138.0.7204.119 Mobile/15E148 Safari/604.1",
    IOS + "FxiOS/140.0 Mobile/15E148 Safari/605.1.15",
    IOS + "EdgiOS/128.0.2739.82 Version/18.0 Mobile/15E148 Safari/604.1",
    IOS + "GSA/375.0.772545411 Mobile/15E148 Safari/604.1",
    IOS + "Version/18.0 Mobile/15E148 DuckDuckGo/7 Safari/605.1.15",
    IOS + "OPT/4.7.0 Mobile/15E148",
    IPAD + "Version/26.0 Mobile/15E148 Safari/604.1",
    ANDROID + "Mobile Safari/537.36",
    ANDROID + "Safari/537.36",
    ANDROID + "Mobile Safari/537.36 EdgA/140.0.0.0",
    ANDROID + "Mobile Safari/537.36 OPR/90.0.0.0",
    ANDROID + "Mobile DuckDuckGo/5 Safari/537.36",
    (
        "Mozilla/5.0 (Linux; Android 15; SAMSUNG SM-S928B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0 "
        "Chrome/130.0.0.0 Mobile Safari/537.36"
    ),
    (
        "Mozilla/5.0 (Linux; U; Android 14; en-us; 23049PCD8G) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 "
        "Chrome/119.0.6045.193 Mobile Safari/537.36 XiaoMi/MiuiBrowser/14.30.1-gn"
    ),
    (
        "Mozilla/5.0 (Linux; U; Android 13; en-US; RMX3501) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 "
        "Chrome/100.0.4896.127 UCBrowser/13.4.0.1306 Mobile Safari/537.36"
    ),
    (
        "Mozilla/5.0 (Linux; Android 9; CUBOT X19) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 "
        "Mobile Safari/537.36"
    ),
    (
        "Mozilla/5.0 (Linux; Android 12; HUAWEI ANA-NX9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/114.0.5735.196 "
        "HuaweiBrowser/15.0.4.312 Mobile Safari/537.36"
    ),
    "Mozilla/5.0 (Android 14; Mobile; rv:143.0) Gecko/143.0 Firefox/143.0",
    "Opera/9.80 (Android; Opera Mini/36.2.2254/191.256; U; en) Presto/2.12.423 Version/12.16",
    # Browsers on computers.
    MAC + "Version/18.5 Safari/605.1.15",
    WINDOWS + "Safari/537.36",
    WINDOWS + "Safari/537.36 Edg/141.0.0.0",
    WINDOWS + "Safari/537.36 OPR/122.0.0.0",
    WINDOWS + "Safari/537.36 Vivaldi/7.6.3797.52",
    WINDOWS + "YaBrowser/25.8.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0",
    "Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko",
    LINUX,
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36",
    # Browsers inside apps.
    (
        "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.7390.124 "
        "Mobile Safari/537.36 [WA4A/2.25.32.75;]"
    ),
    IOS + "Version/26.0.1 Mobile/15E148 Safari/604.1 [WAiOS/2.25.31]",
    WEBVIEW + " WhatsApp/2.25.1.75",
    IOS + "Mobile/22G100 Safari/604.1 MetaIAB Facebook",
    WEBVIEW + " MetaIAB Facebook",
    WEBVIEW + " MetaIAB Instagram",
    IOS + "Mobile/15E148 [FBAN/FBIOS;FBAV/482.2.0.68.110;FBBV/658316928;FBDV/iPhone12,8;FBMD/iPhone;FBSN/iOS;"
    "FBSV/18.1;FBSS/2;FBCR/;FBID/phone;FBLC/en_US;FBOP/80]",
    WEBVIEW + " [FB_IAB/FB4A;FBAV/520.0.0.38.101;]",
    WEBVIEW + " [FB_IAB/Orca-Android;FBAV/439.0.0.29.119;]",
    IOS + "Mobile/14D27 {useragents: [FBAN/MessengerForiOS;FBAV/117.0.0.36.70;FBBV/57539258]",
    IOS + "Mobile/22F76 Instagram 393.1.0.36.70 (iPhone15,3; iOS 18_5; en_US; en; scale=3.00; 1290x2796; IABMV/1; "
    "776538208) Safari/604.1)",
    WEBVIEW
    + " Instagram 385.0.0.47.74 Android (35/15; 480dpi; 1080x2340; samsung; SM-S928B; e3q; qcom; he_IL; 750482)",
    WEBVIEW + " Barcelona 355.0.0.39.109 Android (34/14; 420dpi)",
    ANDROID + "Mobile Safari/537.36 Telegram-Android/11.4.3 (Samsung SM-G965N; Android 14; SDK 34; AVERAGE)",
    IOS + "Mobile/15E148",
    WEBVIEW,
    IOS + "Mobile/15E148 Safari/604.1 musical_ly_41.9.0",
    WEBVIEW + " musical_ly_2023303040 JsSdk/1.0 NetType/WIFI Channel/googleplay AppName/musical_ly app_version/33.3.4 "
    "ByteLocale/en ByteFullLocale/en Region/US AppId/1233 BytedanceWebview/d8a21c6",
    IOS + "Version/17.3.1 Mobile/15E148 Snapchat/12.72.0.39 (like Safari/8617.2.4.10.8, panda)",
    WEBVIEW + "Snapchat/12.90.0.46 (SM-S928B; Android 15#S928BXXU4; gzip; )",
    IOS + "Mobile/15E148 {useragents: [LinkedInApp]/9.30.1753",
    IOS + "Mobile/14D27 Twitter for iPhone",
    WEBVIEW + " TwitterAndroid",
    IOS + "Mobile/15E148 [Pinterest/iOS]",
    WEBVIEW + " [Pinterest/Android]",
    IOS + "Mobile/15E148 Safari Line/14.10.0",
    WEBVIEW + " Line/14.10.0/IAB",
    IOS + "Mobile/15E148 KAKAOTALK 10.8.5",
    IOS + "Mobile/15E148 Zalo iOS/598 ZaloTheme/light ZaloLanguage/vn",
    WEBVIEW + " Zalo android/13169 ZaloTheme/light ZaloLanguage/vi",
    WEBVIEW + " XWEB/1160065 MMWEBSDK/20231202 MicroMessenger/8.0.47.2560(0x28002F30) WeChat/arm64 Weixin NetType/WIFI "
    "Language/en ABI/arm64",
    WEBVIEW + " Reddit/Version 2026.23.0/Build 2623040/Android 15",
    WEBVIEW + " GSA/15.30.0.28.arm64",
    WEBVIEW + " NAVER(inapp; search; 2000; 12.8.0)",
    # Odd, but no reason to think of a machine.
    "Браузер/1.0 (телефон)",
    "浏览器 5.0",
    WINDOWS + "Safari/537.36 " + "x" * 2000,
    WINDOWS + "Safari/537.36\x00\x07\x1b[31m\t\udcff",
]

# The agent, the app, and the media on which its preview of a personal link shows that it was pasted elsewhere.
PREVIEWS = [
    (IMESSAGE, "imessage", "whatsapp email"),
    (IMESSAGE.replace("10_11_1", "10_15_7").upper(), "imessage", "whatsapp email"),
    ("GoogleMessages/20.2 facebookexternalhit/1.1 Facebot Twitterbot/1.0", "google_messages", "whatsapp email"),
    (ANDROID + "Mobile Safari/537.36 GoogleMessages/20.1", "google_messages", "whatsapp email"),
    (LINUX + " Google-PageRenderer " + SNIPPET, "google_messages", "whatsapp email"),
    (LINUX + " " + SNIPPET, "google_messages", "whatsapp email"),
    (LINUX + " Google (+https://developers.google.com/web/snippet/)", "google_messages", "whatsapp email"),
    ("WhatsApp/2.23.20.0 A", "whatsapp", "sms email"),
    ("WhatsApp/2.23.18.78 i", "whatsapp", "sms email"),
    ("WhatsApp/2.2335.6 W", "whatsapp", "sms email"),
    ("WhatsApp/2.16.16/i", "whatsapp", "sms email"),
    ("WhatsApp/0.3.4479 N", "whatsapp", "sms email"),
    ("whatsapp/2.25.9.78 a", "whatsapp", "sms email"),
    ("WhatsApp/2.25.9.78 A" + " x" * 1000, "whatsapp", "sms email"),
    ("WhatsApp/2", "signal", "sms whatsapp email"),
    ("WhatsApp", "signal", "sms whatsapp email"),
    ("WhatsApp/2 (compatible; AnytypeBot/1.0; +https://anytype.io/bot)", "signal", "sms whatsapp email"),
    ("facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)", "meta", "sms email"),
    ("facebookexternalhit/1.1", "meta", "sms email"),
    ("FacebookExternalHit/1.1", "meta", "sms email"),
    (
        "Mozilla/5.0 (compatible; Meta-ExternalHit/1.1; +http://www.facebook.com/externalhit_uatext.php)",
        "meta",
        "sms email",
    ),
    (
        "meta-externalfetcher/1.1 (+https://developers.facebook.com/docs/sharing/webmasters/crawler)",
        "meta",
        "sms email",
    ),
    ("Facebot/1.0", "meta", "sms email"),
    ("facebookexternalua", "meta", "sms email"),
    ("facebookplatform/1.0 (+http://developers.facebook.com)", "meta", "sms email"),
    ("facebookexternalhit/1.1;line-poker/1.0", "line", "sms whatsapp email"),
    (
        "facebookexternalhit/1.1; kakaotalk-scrap/1.0; +https://devtalk.kakao.com/t/scrap/33984",
        "kakaotalk",
        "sms whatsapp email",
    ),
    ("facebookexternalhit/1.1 (compatible; Blueno/1.0; +http://naver.me/scrap)", "naver", "sms whatsapp email"),
    ("RemindPreview/1.0 facebookexternalhit/1.0", "remind", "sms whatsapp email"),
    (
        (
            "Mozilla/5.0 (compatible; The Lounge IRC Client; +https://github.com/thelounge/thelounge) "
            "facebookexternalhit/1.1 Twitterbot/1.0"
        ),
        "irc",
        "sms whatsapp email",
    ),
    ("TelegramBot (like TwitterBot)", "telegram", "sms whatsapp email"),
    ("tElEgRaMbOt (LIKE TWITTERBOT)", "telegram", "sms whatsapp email"),
    ("Twitterbot/1.0", "twitter", "sms whatsapp email"),
    ("Mozilla/5.0 (compatible; TwitterBot/1.0)", "twitter", "sms whatsapp email"),
    ("Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", "slack", "sms whatsapp email"),
    ("Slackbot 1.0(+https://api.slack.com/robots)", "slack", "sms whatsapp email"),
    ("Slack-ImgProxy 0.59 (+https://api.slack.com/robots)", "slack", "sms whatsapp email"),
    ("Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)", "discord", "sms whatsapp email"),
    (
        "LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpClient +http://www.linkedin.com)",
        "linkedin",
        "sms whatsapp email",
    ),
    ("Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5", "teams", "sms whatsapp email"),
    ("SkypeUriPreview Preview/0.5 skype-url-preview@microsoft.com", "teams", "sms whatsapp email"),
    ("Viber", "viber", "sms whatsapp email"),
    ("Viber/13.1.0.4", "viber", "sms whatsapp email"),
    ("Mozilla/5.0 ViberBot", "viber", "sms whatsapp email"),
    ("Snap URL Preview Service; bot; snapchat; https://developers.snap.com/robots", "snapchat", "sms whatsapp email"),
    ("Mozilla/5.0 (compatible; SnapURLPreview/1.0; +https://www.snapchat.com)", "snapchat", "sms whatsapp email"),
    ("Snapchat/10.12.0.2 (iPhone8,1; iOS 10.3.2; gzip)", "snapchat", "sms whatsapp email"),
    ("Pinterest/0.2 (+http://www.pinterest.com/bot.html)", "pinterest", "sms whatsapp email"),
    (
        "Mozilla/5.0 (compatible; Pinterestbot/1.0; +http://www.pinterest.com/bot.html)",
        "pinterest",
        "sms whatsapp email",
    ),
    ("Mozilla/5.0 (compatible; redditbot/1.0; +http://www.reddit.com/feedback)", "reddit", "sms whatsapp email"),
    ("Mozilla/5.0 (compatible; Bluesky Cardyb/1.1; +mailto:support@bsky.app)", "bluesky", "sms whatsapp email"),
    ("http.rb/5.1.1 (Mastodon/4.2.10; +https://mastodon.social/)", "mastodon", "sms whatsapp email"),
    ("Synapse (bot; +https://github.com/matrix-org/synapse)", "matrix", "sms whatsapp email"),
    ("Mozilla/5.0 (compatible; vkShare; +http://vk.com/dev/Share)", "vk", "sms whatsapp email"),
    (
        "Mozilla/5.0 (compatible; OdklBot/1.0 like Linux; klass@odnoklassniki.ru)",
        "odnoklassniki",
        "sms whatsapp email",
    ),
    ("GroupMeBot/1.0", "groupme", "sms whatsapp email"),
    ("Mattermost-Bot/1.1", "mattermost", "sms whatsapp email"),
    ("Mozilla/5.0 (compatible; KeybaseBot; +https://keybase.io)", "keybase", "sms whatsapp email"),
    ("Mozilla/5.0 (compatible; Embedly/0.2; +http://support.embed.ly/)", "embedly", "sms whatsapp email"),
    ("MicrosoftPreview/2.0; +https://aka.ms/MicrosoftPreview", "outlook", "sms whatsapp"),
    (
        "Mozilla/5.0 (compatible; Yahoo Link Preview; https://help.yahoo.com/kb/mail/yahoo-link-preview-SLN23615.html)",
        "yahoo_mail",
        "sms whatsapp",
    ),
]

CRAWLERS = [
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    (
        "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/141.0.0.0 Mobile Safari/537.36 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    ),
    (
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm) "
        "Chrome/103.0.5060.134 Safari/537.36"
    ),
    MAC + "Version/17.4 Safari/605.1.15 (Applebot/0.1; +http://www.apple.com/go/applebot)",
    "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; GPTBot/1.2; +https://openai.com/gptbot",
    "Mozilla/5.0 (compatible; ClaudeBot/1.0; +claudebot@anthropic.com)",
    "Mozilla/5.0 (compatible; PerplexityBot/1.0; +https://perplexity.ai/perplexitybot)",
    "meta-externalagent/1.1 (+https://developers.facebook.com/docs/sharing/webmasters/crawler)",
    "Mozilla/5.0 (compatible; Bytespider; spider-feedback@bytedance.com)",
    "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
    "Mozilla/5.0 (compatible; SemrushBot/7~bl; +http://www.semrush.com/bot.html)",
    LINUX.replace("Chrome/", "HeadlessChrome/"),
    WINDOWS + "Safari/537.36 Googlebot/2.1 " + "y" * 2000,
    "curl/8.4.0",
    "Wget/1.21.3",
    "python-requests/2.32.3",
    "Python/3.11 aiohttp/3.14.5",
    "Go-http-client/2.0",
    "okhttp/4.12.0",
    "node",
    "undici",
    "Dart/3.4 (dart:io)",
    "GuzzleHttp/7",
    "PostmanRuntime/7.39.0",
    "python-urllib3/2.0.7",
    "Mozilla/5.0",
    "Mozilla/5.0 (Windows NT; Windows NT 10.0; en-US) WindowsPowerShell/5.1.19041.1",
    "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.17328; Pro)",
    "Mozilla/4.0 (compatible; ms-office; MSOffice 16)",
    "axios/1.8.4",
    "Java/17.0.2",
    "Dalvik/2.1.0 (Linux; U; Android 14; SM-G930V Build/R16NW)",
    "MyApp/1 CFNetwork/1404.0.5 Darwin/22.3.0",
    "iOS/16.5.1 (20F75) dataaccessd/1.0",
    "Barracuda Sentinel (EE)",
    "W3C-checklink/4.5 [4.160] libwww-perl/5.823",
    "TwilioProxy/1.1",
]

NOBODY = [None, "", " ", "-", "\t\r\n", '"-"', "\x00\x01", "\u200b", "()"]

NAVIGATION = {"sec_fetch_dest": "document", "sec_fetch_mode": "navigate"}


def click(agent: str | None = PEOPLE[0], **known: object) -> ClickFacts:
    facts = ClickFacts("GET", AT, medium="sms", is_personal=True, accepted_by_provider_at=ACCEPTED, user_agent=agent)
    return replace(facts, **known)  # type: ignore[arg-type]


def test_the_tables_are_what_they_say() -> None:
    agents = [*PEOPLE, *(agent for agent, _, _ in PREVIEWS), *CRAWLERS]
    assert len(agents) == len(set(agents)) >= 150
    known = {entry["pattern"] for entry in CRAWLER_USER_AGENTS_DATA}
    assert known >= clickers._PEOPLE, "left out of the list by names that it no longer has"
    assert len(clickers._WORDS) > 1000


@pytest.mark.parametrize("medium", [*MEDIA, None])
@pytest.mark.parametrize("agent", PEOPLE, ids=range(len(PEOPLE)))
def test_a_person_is_counted_and_gets_a_cookie(agent: str, medium: str | None) -> None:
    for hints in ({}, NAVIGATION):
        verdict = classify(click(agent, medium=medium, **hints))
        assert (verdict.kind, verdict.reason) == ("person", "person"), agent
        assert verdict.counts
        assert verdict.gets_cookie
        assert verdict.answer == "redirect"
        assert not verdict.makes_suspect
        assert not verdict.opted_out


@pytest.mark.parametrize("medium", MEDIA)
@pytest.mark.parametrize(("agent", "app", "suspect_on"), PREVIEWS, ids=range(len(PREVIEWS)))
def test_a_preview_is_foreign_unless_the_medium_makes_it(agent: str, app: str, suspect_on: str, medium: str) -> None:
    verdict = classify(click(agent, medium=medium))
    assert (verdict.kind, verdict.reason) == ("preview", f"preview_{app}")
    assert verdict.makes_suspect is (medium in suspect_on.split())
    assert not verdict.counts
    assert not verdict.gets_cookie
    assert verdict.answer == "redirect"
    assert not classify(click(agent, medium=medium, is_personal=False)).makes_suspect


@pytest.mark.parametrize("medium", [None, "", "carrier pigeon"])
def test_where_the_medium_is_unknown_no_preview_is_foreign(medium: str | None) -> None:
    verdict = classify(click("TelegramBot (like TwitterBot)", medium=medium))
    assert verdict.kind == "preview"
    assert not verdict.makes_suspect


def test_a_foreign_preview_gives_the_link_away_however_it_asks() -> None:
    telegram = click("TelegramBot (like TwitterBot)")
    for asked, kind in (
        (replace(telegram, method="HEAD"), "head"),
        (replace(telegram, purpose="prefetch"), "prefetch"),
        (replace(telegram, accepted_by_provider_at=None), "preview"),
        (replace(telegram, sec_fetch_dest="empty"), "preview"),
    ):
        verdict = classify(asked)
        assert verdict.kind == kind
        assert verdict.makes_suspect


@pytest.mark.parametrize("medium", MEDIA)
@pytest.mark.parametrize("agent", CRAWLERS, ids=range(len(CRAWLERS)))
def test_a_crawler_neither_counts_nor_makes_suspect(agent: str, medium: str) -> None:
    verdict = classify(click(agent, medium=medium))
    assert (verdict.kind, verdict.reason) == ("crawler", "agent_listed")
    assert (verdict.counts, verdict.gets_cookie, verdict.makes_suspect) == (False, False, False)
    assert verdict.answer == "redirect"


def test_every_agent_of_the_package_is_some_machine() -> None:
    """All its samples but the browsers inside apps that it takes for machines."""
    taken_for_people = {
        entry["pattern"]
        for entry in CRAWLER_USER_AGENTS_DATA
        for agent in entry["instances"]
        if classify(click(agent)).counts
    }
    assert taken_for_people == {"MetaIAB Facebook"}


@pytest.mark.parametrize("agent", NOBODY, ids=range(len(NOBODY)))
def test_no_agent_is_nobody(agent: str | None) -> None:
    verdict = classify(click(agent, **NAVIGATION))
    assert (verdict.kind, verdict.reason, verdict.answer) == ("no_agent", "agent_missing", "redirect")
    assert (verdict.counts, verdict.gets_cookie, verdict.makes_suspect) == (False, False, False)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("sec_purpose", "prefetch"),
        ("sec_purpose", "prefetch;prerender"),
        ("sec_purpose", "prefetch; prerender"),
        ("sec_purpose", "prefetch;anonymous-client-ip"),
        ("sec_purpose", "  Prefetch ; PRERENDER ; v=2"),
        ("sec_purpose", "other, prefetch"),
        ("sec_purpose", '"prefetch"'),
        ("purpose", "prefetch"),
        ("purpose", "Prefetch,"),
        ("x_moz", "prefetch"),
        ("x_moz", "PREFETCH"),
        ("x_purpose", "preview"),
        ("x_purpose", ": preview"),
        ("x_purpose", "instant"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_request_in_advance_is_put_off(header: str, value: str, method: str) -> None:
    verdict = classify(click(method=method, **NAVIGATION, **{header: value}))
    assert (verdict.kind, verdict.reason, verdict.answer) == ("prefetch", "purpose_header", "retry_later")
    assert (verdict.counts, verdict.gets_cookie) == (False, False)


@pytest.mark.parametrize("value", ["", " ", "navigate", "no-prefetch", "prefetched", "prefetch-not", "\x00", ";;,,"])
def test_another_purpose_does_not_turn_a_person_away(value: str) -> None:
    assert classify(click(sec_purpose=value, purpose=value, x_moz=value, x_purpose=value)).counts


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("GET", "person"),
        ("get", "person"),
        ("HEAD", "head"),
        ("head", "head"),
        ("POST", "other_method"),
        ("", "other_method"),
    ],
)
def test_methods(method: str, kind: str) -> None:
    assert classify(click(method=method)).kind == kind


@pytest.mark.parametrize(
    ("destination", "mode", "kind"),
    [
        (None, None, "person"),
        ("", "", "person"),
        (None, "navigate", "person"),
        ("document", "navigate", "person"),
        ("document", None, "person"),
        ("Document", "Navigate", "person"),
        (" document ; x=1", "navigate", "person"),
        ("document, document", "navigate", "person"),
        ("document, empty", "navigate", "subresource"),
        ("iframe", "navigate", "subresource"),
        ("frame", "navigate", "subresource"),
        ("fencedframe", "navigate", "subresource"),
        ("object", "navigate", "subresource"),
        ("embed", "navigate", "subresource"),
        ("empty", "cors", "subresource"),
        ("empty", "no-cors", "subresource"),
        ("image", "no-cors", "subresource"),
        ("script", "no-cors", "subresource"),
        ("documents", "navigate", "subresource"),
        (None, "no-cors", "subresource"),
        (None, "cors", "subresource"),
    ],
)
def test_only_a_page_of_its_own_is_a_click(destination: str | None, mode: str | None, kind: str) -> None:
    verdict = classify(click(sec_fetch_dest=destination, sec_fetch_mode=mode))
    assert verdict.kind == kind
    assert verdict.counts is verdict.gets_cookie is (kind == "person")


@pytest.mark.parametrize(
    ("medium", "accepted", "kind"),
    [
        ("sms", AT - timedelta(microseconds=1), "person"),
        ("sms", AT, "person"),
        ("sms", AT + timedelta(microseconds=1), "early"),
        ("sms", None, "early"),
        ("whatsapp", None, "early"),
        (None, None, "person"),
        (None, AT + timedelta(days=1), "person"),
    ],
)
def test_nobody_clicks_what_nobody_was_sent(medium: str | None, accepted: datetime | None, kind: str) -> None:
    verdict = classify(click(medium=medium, accepted_by_provider_at=accepted))
    assert verdict.kind == kind
    assert verdict.counts is verdict.gets_cookie is (kind == "person")
    assert verdict.answer == "redirect"


@pytest.mark.parametrize(
    ("header", "opted_out"),
    [
        ("1", True),
        (" 1 ", True),
        ("1, 1", True),
        ("1;x", True),
        ("?1", True),
        ("true", True),
        (None, False),
        ("", False),
        ("0", False),
        ("?0", False),
        ("11", False),
        ("\x00", False),
    ],
)
def test_privacy_control_is_an_opt_out_of_the_cookie_and_no_proof_of_a_person(
    header: str | None, opted_out: bool
) -> None:
    verdict = classify(click(sec_gpc=header))
    assert (verdict.opted_out, verdict.gets_cookie) == (opted_out, not opted_out)
    assert verdict.counts
    assert not classify(click("curl/8.4.0", sec_gpc=header)).counts


def test_headers_are_read_in_any_case_and_several_times() -> None:
    sent = [
        ("User-Agent", PEOPLE[0]),
        ("SEC-PURPOSE", "other"),
        ("sec-purpose", "prefetch;prerender"),
        ("X-Moz", "x"),
        ("Purpose", "p"),
        ("x-purpose", "q"),
        ("Sec-Fetch-Dest", "document"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-GPC", "1"),
        ("Cookie", "secret=1"),
    ]
    found = header_facts(sent)
    assert found == {
        "user_agent": PEOPLE[0],
        "sec_purpose": "other, prefetch;prerender",
        "x_moz": "x",
        "purpose": "p",
        "x_purpose": "q",
        "sec_fetch_dest": "document",
        "sec_fetch_mode": "navigate",
        "sec_gpc": "1",
    }
    verdict = classify(ClickFacts("GET", AT, **found))
    assert (verdict.kind, verdict.opted_out) == ("prefetch", True)
    assert header_facts([]) == {}


def test_long_agents_cost_no_more_and_few_are_remembered() -> None:
    clickers._agent.cache_clear()
    for tail in ("a", "b"):
        assert classify(click("x" * 512 + tail * 10_000)).kind == "person"
    assert clickers._agent.cache_info().misses == 1
    assert clickers._agent.cache_info().maxsize == 4096


texts = st.none() | st.text(max_size=60) | st.characters(codec=None)
agents = texts | st.sampled_from([*PEOPLE, *(agent for agent, _, _ in PREVIEWS), *CRAWLERS])
words = texts | st.sampled_from(
    ["prefetch", "prefetch;prerender", "Preview", "document", "iframe", "navigate", "1", "?1"]
)
moments = st.none() | st.datetimes(timezones=st.just(UTC))


@given(
    facts=st.builds(
        ClickFacts,
        method=st.sampled_from(["GET", "HEAD", "POST"]) | st.text(max_size=8),
        at=st.datetimes(timezones=st.just(UTC)),
        medium=st.sampled_from([None, *MEDIA]) | st.text(max_size=8),
        is_personal=st.booleans(),
        accepted_by_provider_at=moments,
        user_agent=agents,
        sec_purpose=words,
        purpose=words,
        x_moz=words,
        x_purpose=words,
        sec_fetch_dest=words,
        sec_fetch_mode=words,
        sec_gpc=words,
    )
)
def test_whatever_comes_there_is_a_verdict(facts: ClickFacts) -> None:
    verdict = classify(facts)
    assert verdict.kind in get_args(Kind)
    assert verdict.counts is (verdict.kind == "person")
    assert verdict.gets_cookie is (verdict.counts and not verdict.opted_out)
    assert (verdict.answer == "redirect") is (verdict.kind != "prefetch")
    assert facts.is_personal or not verdict.makes_suspect
    assert not (verdict.makes_suspect and verdict.counts)
    told = replace(facts, sec_gpc="1")
    assert classify(told) == replace(verdict, opted_out=True, gets_cookie=False)


@given(
    agent=agents,
    method=st.sampled_from(["GET", "HEAD", "POST"]),
    header=st.sampled_from(["sec_purpose", "purpose", "x_moz", "x_purpose"]),
    value=st.sampled_from(["prefetch", "PREFETCH;prerender", "preview", "a, prefetch ;b=1"]),
)
def test_what_is_asked_in_advance_is_never_redirected(agent: str | None, method: str, header: str, value: str) -> None:
    assert classify(click(agent, method=method, **{header: value})).answer == "retry_later"
