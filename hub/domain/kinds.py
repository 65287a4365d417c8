"""What can be sent over which medium, and within which bounds (rule E10).

Limits and file types are Meta's (WhatsApp) and Twilio's (SMS and MMS):
https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/media and
https://www.twilio.com/docs/messaging/guides/accepted-mime-types.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from hub.domain.errors import Fault, Invalid
from hub.domain.mime_types import bare_mime_type

MB: Final = 1024 * 1024
MAX_TEXT: Final = {"meta": 4096, "twilio": 1600}
"""Characters the providers take in one text (Meta: text object; Twilio: Body, over whatever medium)."""
MAX_CAPTION: Final = {"whatsapp": 1024, "sms": 1600}
MAX_FILES: Final = {"whatsapp": 1, "sms": 10}
"""Files in one message."""
MAX_URL: Final = 2048

CAPTIONED: Final[Mapping[str, frozenset[str]]] = {
    "meta": frozenset({"image", "video", "document"}),
    "twilio": frozenset({"image", "video"}),
}
"""What may carry a text on WhatsApp; Twilio drops that of documents."""
FILE_KINDS: Final = ("image", "video", "audio", "document", "sticker")
"""Message types that consist of files."""

_OFFICE: Final = "application/vnd.openxmlformats-officedocument."
_ENDINGS: Final[Mapping[str, str]] = {
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "mp4": "video/mp4",
    "3gp": "video/3gpp",
    "mov": "video/quicktime",
    "aac": "audio/aac",
    "amr": "audio/amr",
    "mp3": "audio/mpeg",
    "m4a": "audio/mp4",
    "ogg": "audio/ogg",
    "opus": "audio/ogg",
    "txt": "text/plain",
    "pdf": "application/pdf",
    "doc": "application/msword",
    "xls": "application/vnd.ms-excel",
    "ppt": "application/vnd.ms-powerpoint",
    "docx": f"{_OFFICE}wordprocessingml.document",
    "xlsx": f"{_OFFICE}spreadsheetml.sheet",
    "pptx": f"{_OFFICE}presentationml.presentation",
    "vcf": "text/vcard",
    "ics": "text/calendar",
    "csv": "text/csv",
}
"""Usual endings of file names; the machine's own table would differ from one to the next."""


def _of(*endings: str) -> frozenset[str]:
    return frozenset(_ENDINGS[ending] for ending in endings)


_IMAGES: Final = _of("jpg", "png")
_VIDEOS: Final = _of("mp4", "3gp")
_SOUNDS: Final = _of("aac", "amr", "mp3", "m4a", "ogg")
_DOCUMENTS: Final = _of("txt", "pdf", "doc", "xls", "ppt", "docx", "xlsx", "pptx")
_ON_WHATSAPP: Final[Mapping[str, frozenset[str]]] = {
    "image": _IMAGES,
    "video": _VIDEOS,
    "audio": _SOUNDS,
    "document": _DOCUMENTS | _IMAGES | _VIDEOS | _SOUNDS,
    "sticker": _of("webp"),
}
_OVER_SMS: Final[Mapping[str, frozenset[str]]] = {
    "image": _IMAGES | _of("gif", "webp"),
    "video": _VIDEOS | _of("mov"),
    "audio": _SOUNDS,
    "document": _of("pdf", "vcf", "ics", "csv", "txt"),
    "sticker": frozenset(),
}
_TYPES: Final = {"whatsapp": _ON_WHATSAPP, "sms": _OVER_SMS}
_MAX_SMS: Final = 5 * MB
_MAX_BYTES: Final[Mapping[str, Mapping[str, int]]] = {
    "whatsapp": {
        "image": 5 * MB,
        "video": 16 * MB,
        "audio": 16 * MB,
        "document": 100 * MB,
        "sticker": 500 * 1024,
    },
    "sms": dict.fromkeys(FILE_KINDS, _MAX_SMS),
}

_MAX_WHATSAPP_THROUGH_TWILIO: Final = 16 * MB
"""Twilio fetches no more than that, whatever Meta would take."""

MIME_TYPES: Final = frozenset().union(*_ON_WHATSAPP.values(), *_OVER_SMS.values())
"""What may be uploaded at all: what one medium or the other can carry."""

_REFUSED_TEMPLATES: Final = frozenset({"rejected", "paused", "disabled"})


def guess_mime_type(name: str) -> str | None:
    """The media type that a file name, or a URL's path, promises."""
    path = urlsplit(name).path if "://" in name else name
    _, point, ending = path.rpartition("/")[2].rpartition(".")
    return _ENDINGS.get(ending.lower()) if point else None


def extension_of(mime_type: str) -> str:
    """The usual ending of a file of this type, with its point; empty where there is none."""
    return next((f".{ending}" for ending, known in _ENDINGS.items() if known == mime_type), "")


def kind_of(mime_type: str | None) -> str | None:
    """The message type that a file of this media type is sent as; None where there is none."""
    bare = bare_mime_type(mime_type or "")
    if bare == "image/webp":
        return "sticker"
    family = bare.partition("/")[0]
    if family in {"image", "video", "audio"}:
        return family
    return "document" if family in {"application", "text"} else None


def url_fault(url: str) -> str | None:
    """What is wrong with the address of a file or a link, or None: providers fetch and show only https."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is no URL"
    if len(url) > MAX_URL or not url.isascii() or any(c <= " " or c == "\x7f" for c in url):
        return f"must be plain ASCII without blanks, at most {MAX_URL} characters (percent-encode the rest)"
    if parts.scheme != "https" or not parts.hostname or port == 0:
        return "must be an https URL"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user name or a password"
    return None


def unsupported(what: str, medium: str, provider: str, advice: str, pointer: str | None = None) -> Invalid:
    """The refusal of what a number's sender cannot do over a medium; `pointer` is the part of the body that asks it."""
    return Invalid(
        f"{what} over {medium} is not possible through this number's sender at {provider}: {advice} (rule E10).",
        code="unsupported_on_medium",
        errors=[Fault(pointer, "unsupported_on_medium", advice)] if pointer else [],
        medium=medium,
        provider=provider,
        unsupported=what,
    )


def check_kind(kind: str, content: Mapping[str, Any], medium: str, provider: str, can: Collection[str]) -> None:
    """Raise `Invalid` for a message type, or a quote, that the sender cannot send."""
    if kind not in can:
        possible = ", ".join(name for name in KINDS if name in can) or "nothing"
        raise unsupported(kind, medium, provider, f"it sends {possible}", "/type")
    if content.get("reply_to") and "reply_to" not in can:
        raise unsupported("reply_to", medium, provider, "leave it out", "/reply_to")


def check_text(kind: str, content: Mapping[str, Any], medium: str, provider: str) -> None:
    """Raise `Invalid` for a text or caption that is too long, or where none can be."""
    text = content.get("text")
    if not text:
        return
    if kind in FILE_KINDS and medium == "whatsapp" and kind not in CAPTIONED[provider]:
        raise unsupported(f"text beside {kind}", medium, provider, "send the text by itself", "/text")
    most = MAX_TEXT[provider] if kind == "text" else MAX_CAPTION[medium]
    if len(text) > most:
        what = "a text" if kind == "text" else "the text beside a file"
        raise Invalid(
            f"{what} on {medium} through {provider} holds at most {most} characters, this has {len(text)}: split it"
            " (rule E10).",
            code="text_too_long",
            errors=[Fault("/text", "text_too_long", f"at most {most} characters")],
        )


def check_reaction_target(kind: str, *, is_deleted: bool) -> None:
    """Raise `Invalid` for a message that Meta lets nobody react to."""
    if is_deleted or kind == "reaction":
        what = "was deleted" if is_deleted else "is itself a reaction"
        raise Invalid(
            f"that message {what}, and nobody can react to it: react to another (rule E10).",
            code="unknown_message",
            errors=[Fault("/reaction/message_id", "unknown_message", what)],
        )


def check_file_count(count: int, medium: str, provider: str) -> None:
    """Raise `Invalid` for more files than one message holds."""
    if count > MAX_FILES[medium]:
        advice = f"send {MAX_FILES[medium]} at a time"
        raise unsupported(f"{count} files in one message", medium, provider, advice, "/media")


def check_total(files: Sequence[Mapping[str, Any]], medium: str) -> None:
    """Raise `Invalid` for files that are too large together: over SMS all of them share one message's room."""
    total, most = sum(file.get("size", 0) for file in files), _MAX_SMS
    if medium == "sms" and total > most:
        raise Invalid(
            f"over sms all files of a message have at most {most} bytes together, these have {total}: send them one by"
            " one, or make them smaller (rule E10).",
            code="media_too_large",
            errors=[Fault("/media", "media_too_large", f"at most {most} bytes together")],
        )


def check_file(
    kind: str, file: Mapping[str, Any], medium: str, provider: str, place: int, *, is_mixed: bool = False
) -> None:
    """Raise `Invalid` for a file of a type or size that cannot be sent as this kind. What is not known passes: the
    provider will tell. With `is_mixed` it may be of any kind that the medium carries.
    """
    pointer = f"/media/{place}"
    allowed = _TYPES[medium]
    types = frozenset().union(*allowed.values()) if is_mixed else allowed[kind]
    mime_type, size = file.get("mime_type"), file.get("size")
    if mime_type and bare_mime_type(mime_type) not in types:
        raise Invalid(
            f"{bare_mime_type(mime_type)} cannot be sent as {kind} over {medium}: it takes {', '.join(sorted(types))}"
            " (rule E10).",
            code="media_type_unsupported",
            errors=[Fault(f"{pointer}/mime_type", "media_type_unsupported", "see detail")],
        )
    most = _MAX_BYTES[medium][kind]
    if (medium, provider) == ("whatsapp", "twilio"):
        most = min(most, _MAX_WHATSAPP_THROUGH_TWILIO)
    if size is not None and size > most:
        raise Invalid(
            f"as {kind} over {medium} through {provider} a file has at most {most} bytes, this has {size}: make it"
            " smaller, or send it as another type (rule E10).",
            code="media_too_large",
            errors=[Fault(pointer, "media_too_large", f"at most {most} bytes")],
        )


def check_template_form(template: Mapping[str, Any], provider: str) -> None:
    """Raise `Invalid` for a template in the form of another provider than the sender's."""
    if ("content_sid" in template) == (provider == "twilio"):
        return
    needed = "content_sid and variables" if provider == "twilio" else "name, language and components"
    raise Invalid(
        f"This number sends through {provider}, which knows templates by {needed}: name the template that way"
        " (rule E10).",
        code="template_mismatch",
        errors=[Fault("/template", "template_mismatch", f"needs {needed}")],
        provider=provider,
    )


def check_template_status(status: str | None, medium: str) -> None:
    """Raise `Invalid` for a template that Meta is known not to let through; on SMS nobody judges templates."""
    if medium == "whatsapp" and status in _REFUSED_TEMPLATES:
        raise Invalid(
            f"The provider lists this template as {status}: use another, or have it approved and the list read anew"
            " with ?refresh=true (rule E10).",
            code="template_unavailable",
            errors=[Fault("/template", "template_unavailable", f"is {status}")],
            template_status=status,
        )


KINDS: Final = ("text", *FILE_KINDS, "template", "interactive", "location", "contacts", "reaction")
"""Every message type that can be sent, by some medium or other."""
