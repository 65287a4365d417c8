"""What holds by the ledger, and which words of a customer write into it (rule E5)."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.actions.consent_book import subject_of, wish_in
from hub.domain.addresses import Address
from hub.domain.consent import NOTHING_SAID, ConsentEvent, changes_anything, fold, fold_addresses, may_be_tracked
from hub.domain.keywords import keyword_in, keyword_of
from hub.store.contacts import Contact

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
A, B = 1, 2
"""Two numbers of the organisation."""


def ledger(*entries: str) -> list[ConsentEvent]:
    """Written as `kind@number source`, the number left out where all are meant; `operator!` has evidence."""
    made = []
    for minute, entry in enumerate(entries):
        said, _, source = entry.partition(" ")
        kind, _, number = said.partition("@")
        number_id = {"A": A, "B": B, "": None}[number]
        who: Any = source.rstrip("!") or "customer"
        at = START + timedelta(minutes=minute)
        made.append(ConsentEvent(kind, number_id, who, at, source.endswith("!")))  # type: ignore[arg-type]
    return made


def standing(entries: list[ConsentEvent]) -> tuple[str, str, str]:
    """The status on A, on B, and on a number of which nothing was said."""
    return fold(entries, A).status, fold(entries, B).status, fold(entries, None).status


# What was said, and what holds then: on A, on B, on any other.
TABLE = [
    ([], "unknown unknown unknown"),
    (["granted service"], "granted granted granted"),
    (["granted@A service"], "granted unknown unknown"),
    (["revoked service"], "revoked revoked revoked"),
    (["revoked@A service"], "revoked unknown unknown"),
    (["stop@A"], "revoked revoked revoked"),
    (["stop@A provider"], "revoked revoked revoked"),
    (["stop@A", "stop@B"], "revoked revoked revoked"),
    # START lifts a STOP, for its number, and nothing else.
    (["start@A"], "unknown unknown unknown"),
    (["stop@A", "start@A"], "unknown revoked revoked"),
    (["stop@A", "start@B"], "revoked unknown revoked"),
    (["stop@A", "start@A", "start@B"], "unknown unknown revoked"),
    (["stop@A", "start@A", "stop@A"], "revoked revoked revoked"),
    (["stop@A provider", "start@A"], "unknown revoked revoked"),
    (["revoked service", "start@A"], "revoked revoked revoked"),
    (["stop@A", "revoked service", "start@A"], "revoked revoked revoked"),
    (["revoked@A service", "stop@A", "start@A"], "revoked revoked revoked"),
    (["revoked@A service", "stop@A", "start@B"], "revoked unknown revoked"),
    # A grant from before the stop holds again; one from before a revocation does not.
    (["granted service", "stop@A"], "revoked revoked revoked"),
    (["granted service", "stop@A", "start@A"], "granted revoked revoked"),
    (["granted@B service", "stop@A", "start@A", "start@B"], "unknown granted revoked"),
    (["granted service", "revoked service", "stop@A", "start@A"], "revoked revoked revoked"),
    (["granted service", "revoked service", "granted operator!"], "granted granted granted"),
    # A service, or an operator who has no evidence, lifts nothing.
    (["stop@A", "granted service"], "revoked revoked revoked"),
    (["stop@A", "granted@A service", "start@A"], "unknown revoked revoked"),
    (["revoked service", "granted service"], "revoked revoked revoked"),
    (["revoked@A service", "granted service"], "revoked granted granted"),
    (["stop@A", "granted operator"], "revoked revoked revoked"),
    (["stop@A", "start@A", "granted service"], "granted revoked revoked"),
    # The operator with evidence lifts all of it, where they say so.
    (["stop@A", "granted operator!"], "granted granted granted"),
    (["stop@A", "granted@A operator!"], "granted revoked revoked"),
    (["revoked service", "granted@B operator!"], "revoked granted revoked"),
    (["stop@A", "revoked service", "granted@A operator!"], "granted revoked revoked"),
    (["revoked@A operator!", "granted operator!"], "granted granted granted"),
    (["stop@A", "granted operator!", "stop@B"], "revoked revoked revoked"),
    # A question that nobody has answered; it takes nothing away and is answered by whatever is said.
    (["pending browser"], "pending pending pending"),
    (["pending@A site"], "pending unknown unknown"),
    (["granted service", "pending browser"], "granted granted granted"),
    (["revoked service", "pending browser"], "revoked revoked revoked"),
    (["pending browser", "granted service"], "granted granted granted"),
    (["pending browser", "stop@A", "start@A"], "unknown revoked revoked"),
    (["stop@A", "start@A", "pending browser"], "pending revoked revoked"),
    # A number that was given up is revoked until somebody agrees to be written to at it; what was refused stays so.
    (["granted service", "replaced service"], "revoked revoked revoked"),
    (["replaced service", "granted service"], "granted granted granted"),
    (["replaced service", "granted@A service"], "granted revoked revoked"),
    (["replaced service", "start@A"], "unknown revoked revoked"),
    (["replaced service", "pending browser"], "revoked revoked revoked"),
    (["granted service", "replaced service", "start@A"], "unknown revoked revoked"),
    (["stop@A", "replaced service", "granted service"], "revoked revoked revoked"),
    (["revoked service", "replaced service", "granted service"], "revoked revoked revoked"),
    (["replaced service", "revoked service", "granted service"], "revoked revoked revoked"),
    (["replaced service", "stop@A", "granted operator!"], "granted granted granted"),
    # WhatsApp's own switch is about templates only.
    (["marketing_stop@A"], "unknown unknown unknown"),
    (["granted service", "marketing_stop@A"], "granted granted granted"),
]


@pytest.mark.parametrize(("said", "holds"), TABLE, ids=[" ".join(said) or "nothing" for said, _ in TABLE])
def test_e5_what_holds(said: list[str], holds: str) -> None:
    assert " ".join(standing(ledger(*said))) == holds


def test_e5_marketing_is_switched_by_number_and_by_nothing_else() -> None:
    stopped = ledger("marketing_stop@A", "start@A", "granted operator!")
    assert [fold(stopped, number).is_marketing_stopped for number in (A, B, None)] == [True, False, False]
    assert not fold(stopped + ledger("marketing_resume@A"), A).is_marketing_stopped
    assert fold(stopped + ledger("marketing_resume@B"), A).is_marketing_stopped


def test_e5_since_when() -> None:
    assert NOTHING_SAID.since is None
    said = ledger("granted service", "granted service", "stop@A", "stop@B", "revoked service", "start@A")
    assert fold(said[:2], A).since == said[0].at
    assert fold(said, A).since == said[2].at
    assert fold(said[:4] + said[5:], A).since == said[5].at


@pytest.mark.parametrize(
    ("before", "new", "is_change"),
    [
        ([], "stop@A", True),
        (["stop@A"], "stop@A", False),
        (["stop@A"], "stop@B", False),
        (["stop@A", "start@B"], "stop@A", True),
        ([], "start@A", False),
        (["stop@A"], "start@A", True),
        (["stop@A", "start@A"], "start@A", False),
        (["revoked service"], "stop@A", True),
        (["granted service"], "granted@A service", False),
        (["granted@A service"], "granted service", True),
        (["stop@A"], "granted service", False),
        ([], "marketing_resume@A", False),
        (["marketing_stop@A"], "marketing_stop@A", False),
        (["marketing_stop@A"], "marketing_stop@B", True),
        ([], "pending browser", True),
        (["pending browser"], "pending browser", False),
        (["granted service"], "pending browser", False),
        (["stop@A"], "pending browser", False),
    ],
)
def test_e5_what_changes_nothing_is_not_written(before: list[str], new: str, is_change: bool) -> None:
    assert changes_anything(ledger(*before), ledger(new)[0]) is is_change


def test_i3_a_number_given_up_stays_so_whatever_is_said_of_another() -> None:
    given_up, agreed = ledger("granted service", "replaced service"), ledger("granted service")
    together = [*(("old", event) for event in given_up), *(("new", event) for event in agreed)]
    assert fold_addresses(together, A).status == "revoked"
    assert fold_addresses(together[2:], A).status == "granted"
    assert fold_addresses([*together, ("old", agreed[0])], A).status == "granted"
    assert fold_addresses([("new", event) for event in ledger("stop@A")] + together, A).status == "revoked"
    assert fold_addresses([], A) == NOTHING_SAID


NUMBERS = st.sampled_from([A, B, None])
EVENTS = st.builds(
    ConsentEvent,
    st.sampled_from(
        ["granted", "revoked", "stop", "start", "marketing_stop", "marketing_resume", "pending", "replaced"]
    ),
    NUMBERS,
    st.sampled_from(["customer", "service", "operator", "provider", "site", "browser"]),
    st.just(START),
    st.booleans(),
)


@given(st.lists(EVENTS, max_size=8), st.lists(EVENTS, max_size=8), NUMBERS)
def test_e5_nobody_but_the_customer_or_the_operator_lifts_a_stop(
    before: list[ConsentEvent], after: list[ConsentEvent], number: int | None
) -> None:
    stop = ConsentEvent("stop", A, "customer", START)
    powerless = [e for e in after if e.kind != "start" and not (e.source == "operator" and e.has_evidence)]
    assert fold([*before, stop, *powerless], number).status == "revoked"


@given(st.lists(EVENTS, max_size=8), st.lists(EVENTS, max_size=8), NUMBERS)
def test_e5_nobody_but_the_operator_lifts_a_revocation(
    before: list[ConsentEvent], after: list[ConsentEvent], number: int | None
) -> None:
    revoked = ConsentEvent("revoked", None, "service", START)
    powerless = [e for e in after if not (e.source == "operator" and e.has_evidence)]
    assert fold([*before, revoked, *powerless], number).status == "revoked"


@given(st.lists(EVENTS, max_size=10), EVENTS, NUMBERS)
def test_e5_what_is_not_written_would_have_made_no_difference(
    events: list[ConsentEvent], new: ConsentEvent, number: int | None
) -> None:
    if not changes_anything(events, new):
        assert fold([*events, new], number) == fold(events, number)


@given(st.lists(EVENTS, max_size=10), NUMBERS)
def test_e5_start_grants_nothing_new(events: list[ConsentEvent], number: int | None) -> None:
    holds = fold([*events, ConsentEvent("start", A, "customer", START)], number)
    if holds.is_granted:
        assert any(event.kind == "granted" for event in events)


@given(st.lists(EVENTS, max_size=10), NUMBERS)
def test_e5_a_question_changes_nothing_that_holds(events: list[ConsentEvent], number: int | None) -> None:
    before = fold(events, number)
    after = fold([*events, ConsentEvent("pending", None, "browser", START)], number)
    assert (after.is_revoked, after.is_granted) == (before.is_revoked, before.is_granted)
    assert after.status == ("pending" if before.status == "unknown" else before.status)


# Each contact of a profile with what was said of `tracking`, and whether it is tracked: required, implied, off.
TRACKED = [
    ([], (False, True, True)),
    ([[]], (False, True, True)),
    ([["granted service"]], (True, True, True)),
    ([["pending browser"]], (False, True, True)),
    ([["revoked service"]], (False, False, True)),
    ([["granted service", "revoked service"]], (False, False, True)),
    ([["revoked service", "granted service"]], (False, False, True)),
    ([["revoked service", "granted operator!"]], (True, True, True)),
    ([[], ["granted service"]], (True, True, True)),
    ([["granted service"], ["revoked service"]], (False, False, True)),  # of any part: no merge takes it away
    ([["revoked service"], ["granted operator!"]], (False, False, True)),
]


@pytest.mark.parametrize(("parts", "wanted"), TRACKED, ids=[str(parts) for parts, _ in TRACKED])
def test_who_is_tracked(parts: list[list[str]], wanted: tuple[bool, bool, bool]) -> None:
    people = [ledger(*entries) for entries in parts]
    found = [may_be_tracked(people, mode) for mode in ("required", "implied", "off")]  # type: ignore[arg-type]
    assert tuple(found) == wanted


STOPS = """
STOP|stop|Stop|StOp| stop |stop.|STOP!|STOP!!!|"stop"|(stop)|stop\u200b|*STOP*|STOP \U0001f6d1|stop\ufe0f
s t o p|S.T.O.P.|ＳＴＯＰ|\U0001d412\U0001d413\U0001d40e\U0001d40f|STOP ALL|stopall|stop-all
unsubscribe|Unsubscribe.|UNSUB|cancel|Cancel!|end|quit|opt out|OPT-OUT|optout|revoke
STOPP|stopp!|Abmelden|ABBESTELLEN|austragen|arret|ARRÊT|Arre\u0302t|arrêter|ARRETER|désabonner|DESABONNER|Désinscription
baja|BAJA.|alto|darme de baja|cancelar|parar|sair|descadastrar|Cancelar inscrição|annulla|DISISCRIVI
afmelden|UITSCHRIJVEN|stoppen|wypisz|WYPISZ SIĘ|rezygnuje|durdur|İPTAL|iptal|IPTAL|Abonelikten Çık|ABONELİKTEN ÇIK
стоп|СТОП|Отписаться|відписатися|إيقاف|ايقاف|إلغاء الاشتراك|توقف|הסר|बंद|बंद करें|berhenti|UNREG|avsluta|avanmäl
AFMELD|meld av|lopeta|ΣΤΟΠ|Odhlásit|zrusit|停止|配信停止|ストップ|ｽﾄｯﾌﾟ|退订|退訂|取消|수신거부|huỷ đăng ký|หยุด|ยกเลิก
"""
STARTS = """
START|start|Start!|unstop|subscribe|resubscribe|opt in|OPT-IN|anmelden|réabonner|S'abonner|alta|suscribir|inscrever
iscrivimi|aanmelden|zapisz mnie|abone ol|СТАРТ|подписаться|ابدأ|शुरू करें|mulai|tilmeld|再開|订阅|구독
"""
HELPS = "HELP|help?|info|Hilfe|aide|ayuda|ajuda|aiuto|hulp|pomoc|Yardım|помощь|مساعدة|मदद|bantuan|hjälp|ヘルプ|帮助"
NEITHER = """
stop sending the blue one|please don't stop|stop it now please|don't stop|non stop|non-stop|stop why|bus stop|stops
stopped|stopping|the end|weekend|send|end of march|cancel my order|can I cancel|cancelled|quite|quit smoking
yes|YES|y|ok|no|ja|si|oui|sim|1|0|\U0001f6d1|\U0001f44d|...|?|restart|start over|let's start|started|smart|helpful
help me|basta cosi|alto y bajo|bajar|baja california|salta|parar em casa|arrête de rire|stop stop|stopstop|un|in|out
opt|red|huy|Huy|बद|ret urn|停|止|取消订单|не стоп|اوقف الطلب|stop the car|stop, by tomorrow|unstoppable|sto p|to p
HELP STOP|start stop
"""


def listed(table: str) -> list[str]:
    return [word for line in table.strip().split("\n") for word in line.split("|")]


def test_e5_stop_in_the_languages_of_the_field() -> None:
    assert len(listed(STOPS)) > 80
    assert [word for word in listed(STOPS) if keyword_of(word) != "stop"] == []


def test_e5_start_is_no_yes() -> None:
    assert [word for word in listed(STARTS) if keyword_of(word) != "start"] == []
    assert keyword_of("yes") is None


def test_e5_help() -> None:
    assert [word for word in listed(HELPS) if keyword_of(word) != "help"] == []


def test_e5_only_the_whole_message_counts() -> None:
    assert {word: keyword_of(word) for word in [*listed(NEITHER), "", " ", "stop " * 20] if keyword_of(word)} == {}


def test_e5_punctuation_is_no_part_of_the_message_however_much_there_is() -> None:
    for text in (f"Stop{'!' * 99}", f"{'.' * 50} STOP {'¡！…' * 20}", "STOP" + "\n" * 60 + "."):
        assert keyword_of(text) == "stop"


@given(st.text(max_size=60))
def test_e5_any_text_at_all(text: str) -> None:
    assert keyword_of(text) in {None, "stop", "start", "help"}
    assert keyword_of(f"  {text.strip()}\n") == keyword_of(text)


@pytest.mark.parametrize(
    ("content", "keyword"),
    [
        ({"text": "Stop"}, "stop"),
        ({"text": "no more of this", "opt_out_type": "STOP"}, "stop"),
        ({"text": "STOP", "opt_out_type": "HELP"}, "help"),
        ({"text": "YES", "opt_out_type": "START"}, "start"),
        ({"text": "STOP", "opt_out_type": "NEWS"}, "stop"),
        ({"button": {"text": "Stop", "payload": "p"}}, "stop"),
        ({"button": {"text": "Continue", "payload": "STOP"}}, None),
        ({"interactive": {"type": "list_reply", "id": "stop", "title": "Unsubscribe"}}, "stop"),
        ({"interactive": {"type": "nfm_reply"}}, None),
        ({"button": "stop", "interactive": None, "text": None}, None),
        ({"location": {"name": "STOP"}}, None),
        ({}, None),
    ],
)
def test_e5_what_a_message_says(content: dict[str, Any], keyword: str | None) -> None:
    assert keyword_in(content) == keyword


# Whose ledger, and whose word ---------------------------------------------------------------------------------------

PHONE, USER, NAME = Address("phone", "+5511912345678"), Address("user_id", "BR.1"), Address("username", "mia")


@pytest.mark.parametrize(
    ("reported", "owned", "kept_under"),
    [
        ([USER, PHONE], [USER, PHONE], PHONE),
        ([USER, PHONE], [USER], USER),  # the phone is another contact's, for whom it is noted apart
        ([USER, PHONE, NAME], None, PHONE),
        ([USER, NAME], None, USER),
    ],
)
def test_e5_entries_are_kept_under_an_address_of_the_customer_s_own(
    reported: list[Address], owned: list[Address] | None, kept_under: Address
) -> None:
    contact = Contact(UUID(int=1), None, tuple(owned)) if owned else None
    subject = subject_of("whatsapp", reported, contact)
    assert subject.address == kept_under
    assert all(name[1] != "username" for name in subject.names)
    assert ("whatsapp", "user_id", "BR.1") in subject.names or kept_under == PHONE
    assert (("whatsapp", "phone", "+551112345678") in subject.names) == (kept_under == PHONE)


@pytest.mark.parametrize(
    ("provider", "code", "kind"),
    [
        ("twilio", "21610", "stop"),
        ("meta", "131050", "marketing_stop"),
        ("twilio", "131050", None),
        ("meta", "21610", None),
        ("twilio", "63033", None),
        ("twilio", "30003", None),
        ("meta", "131026", None),
        ("meta", None, None),
    ],
)
def test_e5_two_errors_tell_what_a_customer_wants_and_no_other(provider: str, code: str | None, kind: str) -> None:
    wish = wish_in(provider, [None, {"code": "x", "provider_code": code}])
    assert (wish.kind if wish else None) == kind
