"""What a message's author says of the links in it, read out of the message (rule F, tracked links).

Marks stand beside what they are about, and nobody but the hub understands them: before anything is stored or handed to
a provider they are taken out. Places in a content are paths, as of a JSON pointer.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from hub.domain.errors import Invalid
from hub.domain.link_targets import check_target

Form = Literal["text", "url", "suffix"]
"""Links anywhere in a text; a text that is a link as a whole; one that is to become what follows the link host in a URL
that a template was approved with.
"""
Path = tuple[str | int, ...]
Component = Mapping[str, Any]
_TEXTS: Final = frozenset({"header", "body"})
"""Components of Meta's templates whose variables stand in a text."""


@dataclass(frozen=True, slots=True)
class Marks:
    """The variables of a template whose links are to be tracked, and what must not be."""

    wanted: Mapping[Path, Form] = field(default_factory=dict)
    unwanted: Collection[Path] = ()

    @property
    def has_suffix(self) -> bool:
        """Whether a URL only leads somewhere if it is tracked."""
        return "suffix" in self.wanted.values()


@dataclass(frozen=True, slots=True)
class LinkWishes:
    """How the links of one message are to be treated; `utm` by the whole names of the parameters."""

    track: bool = True
    skip: frozenset[str] = frozenset()
    utm: Mapping[str, str] = field(default_factory=dict)
    never_more_segments: bool = False
    marks: Marks = Marks()


def pointer(path: Path) -> str:
    """A path as a JSON pointer (RFC 6901)."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def is_whole_link(text: object) -> bool:
    """Whether a text is one http or https URL and nothing besides."""
    if not isinstance(text, str):
        return False
    try:
        check_target(text)
    except Invalid as error:
        return error.code != "link_target_invalid"  # where it may lead is judged where that is known
    return True


# Taking them out ----------------------------------------------------------------------------------------------------


def unmark(content: Mapping[str, Any]) -> tuple[dict[str, Any], Marks]:
    """The content of a validated message without the marks, and the marks."""
    made = dict(content)
    if "interactive" in content:
        made["interactive"], unwanted = _unmark_interactive(content["interactive"])
        return made, Marks(unwanted=unwanted)
    if "template" in content:
        made["template"], wanted = _unmark_template(content["template"])
        return made, Marks(wanted)
    return made, Marks()


def _unmark_interactive(interactive: Mapping[str, Any]) -> tuple[dict[str, Any], Collection[Path]]:
    made = {name: value for name, value in interactive.items() if name != "track"}
    return made, [("interactive", "url")] if interactive.get("track") is False else ()


def _unmark_template(template: Mapping[str, Any]) -> tuple[dict[str, Any], dict[Path, Form]]:
    made = dict(template)
    texts, suffixes = made.pop("track_variables", ()), made.pop("track_suffixes", ())
    wanted: dict[Path, Form] = {("template", "variables", name): "text" for name in texts}
    wanted |= {("template", "variables", name): "suffix" for name in suffixes}
    if "components" in made:
        wanted |= {
            ("template", "components", *path): form
            for path, form, parameter in _parameters(made["components"])
            if form is not None and parameter.get("track") is True
        }
        made["components"] = _each(made["components"], _bare_component)
    return made, wanted


def _bare_component(component: Component) -> dict[str, Any]:
    made = dict(component)
    if "parameters" in made:
        made["parameters"] = _each(made["parameters"], _bare_parameter)
    if "cards" in made:
        made["cards"] = _each(made["cards"], _bare_card)
    return made


def _bare_parameter(parameter: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameter.items() if name != "track"}


def _bare_card(card: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(card)
    if "components" in made:
        made["components"] = _each(made["components"], _bare_component)
    return made


def _each(value: Any, change: Callable[[Mapping[str, Any]], Any]) -> Any:
    """The objects of a list, changed; what is none, or no list, is for Meta to refuse."""
    return [change(part) if isinstance(part, Mapping) else part for part in value] if isinstance(value, list) else value


# Finding them -------------------------------------------------------------------------------------------------------


def _parameters(components: object) -> Iterator[tuple[Path, Form | None, Mapping[str, Any]]]:
    """Every parameter of a template in Meta's form, those on the cards of a carousel too: the path to its text, and
    how a link in it is written; None where none can be.
    """
    for place, component in _numbered(components):
        for number, parameter in _numbered(component.get("parameters")):
            yield (place, "parameters", number, "text"), _form(component), parameter
        for number, card in _numbered(component.get("cards")):
            for path, form, parameter in _parameters(card.get("components")):
                yield (place, "cards", number, "components", *path), form, parameter


def _form(component: Component) -> Form | None:
    kind, sub_type = str(component.get("type")).lower(), str(component.get("sub_type")).lower()
    if kind in _TEXTS:
        return "text"
    return "suffix" if (kind, sub_type) == ("button", "url") else None


def _numbered(value: object) -> Iterator[tuple[int, Component]]:
    if isinstance(value, list):
        yield from ((number, part) for number, part in enumerate(value) if isinstance(part, Mapping))


def component_fault(component: Component) -> str | None:
    """What is wrong with the marks in a component of Meta's template, in a sentence that names the parameter."""
    for path, form, parameter in _parameters([component]):
        sentence = _parameter_fault(form, parameter) if "track" in parameter else None
        if sentence:
            return f"{pointer(path[1:-1])[1:]}: {sentence}"
    return None


def _parameter_fault(form: Form | None, parameter: Mapping[str, Any]) -> str | None:
    if not isinstance(parameter["track"], bool):
        return "track is true or false"
    if not parameter["track"]:
        return None
    if form is None or parameter.get("type") != "text" or not isinstance(parameter.get("text"), str):
        return "track stands beside a text of a header, of a body or of a button of sub_type url"
    if form == "suffix" and not is_whole_link(parameter["text"]):
        return "to be tracked, the text of a url button is the whole http:// or https:// URL that it leads to"
    return None
