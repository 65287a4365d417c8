"""The words by which customers say what they want to be sent: STOP, START and HELP in their languages (rule E5).

Only a whole message counts, so each word here must be unmistakable when it stands alone. "Yes" is none of them: it
answers questions of all sorts.
"""

import re
import string
import unicodedata
from collections.abc import Mapping
from typing import Any, Final, Literal

Keyword = Literal["stop", "start", "help"]

_STOP: Final = """
stop | stop all | stopall | unsubscribe | unsubscribe me | unsub | cancel | end | quit | opt out | optout | revoke
stopp | abmelden | abmeldung | abbestellen | austragen | newsletter abbestellen
arrêt | arrêter | arrêtez | désabonner | désabonnement | me désabonner | désinscrire | désinscription | désinscrivez moi
baja | alto | darme de baja | dar de baja | cancelar | cancelar suscripción | desuscribir | desuscribirme
anular suscripción | detener | parar | sair | descadastrar | descadastre | cancelar inscrição | desinscrever
annulla | disiscrivi | disiscrivimi | disiscrizione | cancellami | annulla iscrizione
afmelden | afmelding | uitschrijven | stoppen
wypisz | wypisz mnie | wypisz się | rezygnuję | rezygnacja | zrezygnuj | anuluj | zatrzymaj
durdur | iptal | iptal et | ret | abonelikten çık | listeden çık
стоп | отписаться | отписка | отпишите | отпишите меня | отмена | отписать | відписатися | відписка | скасувати
توقف | قف | إيقاف | إلغاء | إلغاء الاشتراك | لغو | הסר | הסירו | הסירו אותי
बंद | बंद करो | बंद करें | रोको | रोकें | स्टॉप | band karo | band karen
berhenti | berhenti berlangganan | batalkan | unreg | henti
avsluta | avregistrera | avprenumerera | avanmäl | afmeld | afmeld mig | frameld | avmeld | meld av | avslutt
lopeta | peruuta | peru tilaus | στοπ | διακοπή | διαγραφή | odhlásit | zrušit | dezabonare | leiratkozás | leiratkozom
停止 | ストップ | 配信停止 | 解除 | 登録解除 | 退会 | 退订 | 退訂 | 取消 | 取消订阅 | 取消訂閱
수신거부 | 중지 | 구독취소 | huỷ đăng ký | hủy đăng ký | ngừng nhận tin | หยุด | ยกเลิก
"""
_START: Final = """
start | unstop | subscribe | resubscribe | re subscribe | opt in | optin
anmelden | wieder anmelden | abonner | s abonner | me réabonner | réabonner
alta | darme de alta | suscribir | suscribirme | inscrever | inscrever me | iscrivi | iscrivimi | riscrivimi
aanmelden | inschrijven | zapisz mnie
abone ol | старт | подписаться | підписатися | ابدأ | اشتراك | शुरू | शुरू करें | स्टार्ट
mulai | berlangganan | prenumerera | tilmeld | påmeld | 再開 | 登録 | 订阅 | 訂閱 | 구독 | đăng ký
"""
_HELP: Final = """
help | info | hilfe | aide | ayuda | ajuda | aiuto | hulp | pomoc | yardım | помощь | справка | допомога | مساعدة | עזרה
मदद | हेल्प | bantuan | hjälp | hjælp | hjelp | apua | βοήθεια | ヘルプ | 帮助 | 幫助 | 도움말 | trợ giúp
"""
_LONGEST: Final = 40
"""Characters: longer than every word here, so that most messages are looked at no further."""
_AROUND: Final = f"{string.punctuation}{string.whitespace}¡¿…！？。．、，"
"""What may stand around a word in any number."""
_OPT_OUT_TYPES: Final[dict[str, Keyword]] = {"STOP": "stop", "START": "start", "HELP": "help"}

_ASCII_WORD: Final = re.compile("[a-z0-9]+")
# Letters that differ by what has no accent of its own to drop.
_LETTERS: Final = str.maketrans({"ı": "i", "ł": "l", "ø": "o", "đ": "d", "æ": "ae", "\u0640": None})


def _plain(text: str) -> str:
    """The words alone: without case, accents, punctuation, emoji; letters spelt one by one are one word."""
    if text.isascii():  # the same, and most messages are
        parts = _ASCII_WORD.findall(text.lower())
    else:
        folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold()).translate(_LETTERS)
        parts = "".join(_part(character) for character in folded).split()
    return "".join(parts) if all(len(part) == 1 for part in parts) else " ".join(parts)


def _part(character: str) -> str:
    """A letter or digit, and the marks that change a letter in its script; nothing for accents and what is not seen;
    a blank for all else.
    """
    if character.isalnum():
        return character
    if "\u0300" <= character <= "\u036f" or "\u064b" <= character <= "\u065f" or "\ufe00" <= character <= "\ufe0f":
        return ""
    category = unicodedata.category(character)
    if category == "Cf":
        return ""
    return character if category[0] == "M" else " "


def _words(text: str, keyword: Keyword) -> dict[str, Keyword]:
    return {_plain(word): keyword for line in text.strip().splitlines() for word in line.split("|")}


_KEYWORDS: Final = _words(_HELP, "help") | _words(_START, "start") | _words(_STOP, "stop")


def keyword_of(text: str) -> Keyword | None:
    """What a message says, if all of it is one of these words."""
    text = text.strip().strip(_AROUND)
    return _KEYWORDS.get(_plain(text)) if 0 < len(text) <= _LONGEST else None


def keyword_in(content: Mapping[str, Any]) -> Keyword | None:
    """What a customer's message says: what the provider made of it (Twilio's Advanced Opt-Out), else its text, else
    the title that was tapped.
    """
    told = content.get("opt_out_type")
    if told and (known := _OPT_OUT_TYPES.get(str(told).strip().upper())):
        return known
    for said in (content.get("text"), _field(content, "button", "text"), _field(content, "interactive", "title")):
        if isinstance(said, str) and (found := keyword_of(said)):
            return found
    return None


def _field(content: Mapping[str, Any], name: str, inner: str) -> Any:
    value = content.get(name)
    return value.get(inner) if isinstance(value, Mapping) else None
