"""The types of the client's answers are those of the hub's own models: the same fields, the same of them always."""

import importlib
from typing import Any, is_typeddict

import pytest

from partyline_client import views

MODELS = {
    "Agent": "people.Agent",
    "Author": "people.Author",
    "Address": "people.Address",
    "Service": "people.Named",
    "ContactRef": "people.Contact",
    "Warned": "people.Warned",
    "Pickup": "people.Holder",
    "Waiting": "people.Waiting",
    "Attachment": "messages.File",
    "Uploaded": "media.Uploaded",
    "File": "media.KnownFile",
    "Message": "messages.FullMessage messages.MaskedMessage messages.OwnMessage messages.OthersMessage",
    "Sent": "messages.Accepted",
    "Conversation": "messages.Conversation",
    "PickedUp": "handling.PickedUp",
    "Released": "handling.Released",
    "Present": "handling.Present",
    "Passed": "handling.Passed",
    "Read": "handling.Marked",
    "Parent": "numbers.Parent",
    "Subscriber": "numbers.Subscriber",
    "Connected": "numbers.Connection",
    "Connection": "numbers.Connected",
    "Number": "numbers.Unconnected numbers.WatchedNumber",
    "Rotated": "numbers.NewSecret",
    "Template": "numbers.Template",
    "Link": "links.MadeLink",
    "LinkReport": "click_reports.LinkReport",
    "Consent": "consents.ConsentState",
    "Contact": "contacts.Profile",
    "Identified": "identify.Identified",
    "Delivery": "deliveries.Attempt",
    "Parked": "deliveries.Parked",
    "DeadLetter": "deliveries.DeadLetter",
    "Replay": "deliveries.Replay",
}


def fields(model: str) -> dict[str, bool]:
    """A model's fields, by the names of the JSON, and whether each is always there."""
    module, name = model.split(".")
    found: Any = getattr(importlib.import_module(f"hub.http.answers.{module}"), name)
    return {field.alias or name: field.is_required() for name, field in found.model_fields.items()}


@pytest.mark.parametrize("name", MODELS)
def test_a_type_has_the_fields_of_its_models(name: str) -> None:
    models = [fields(model) for model in MODELS[name].split()]
    kind = getattr(views, name)
    assert set(kind.__annotations__) == set().union(*models)
    always = set.intersection(*({field for field, is_required in one.items() if is_required} for one in models))
    assert set(kind.__required_keys__) == always


def test_every_type_is_compared() -> None:
    assert {name for name, kind in vars(views).items() if is_typeddict(kind)} == set(MODELS)
