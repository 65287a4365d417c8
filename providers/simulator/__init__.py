"""Meta's and Twilio's HTTP APIs as a local server, and their customers: for the demo, tests and benchmarks.

The real SDKs talk to it unchanged. It imports neither the hub nor the SDKs, and signs by itself, so that it is a
second opinion on what the providers do.
"""

from providers.simulator.browser import Browser
from providers.simulator.business import Business
from providers.simulator.faults import Fault
from providers.simulator.ledger import Attempt, Number, Person, ReadMark, SimulatedSend
from providers.simulator.limits import Limit
from providers.simulator.load import mixed_load, people, twilio_load
from providers.simulator.media_shelf import InboundFile, MediaFault
from providers.simulator.meta_fields import Past
from providers.simulator.posting import Posted
from providers.simulator.scenario import Customer, NotAccepted
from providers.simulator.server import Simulator
from providers.simulator.statuses import StatusPlan

__all__ = [
    "Attempt",
    "Browser",
    "Business",
    "Customer",
    "Fault",
    "InboundFile",
    "Limit",
    "MediaFault",
    "NotAccepted",
    "Number",
    "Past",
    "Person",
    "Posted",
    "ReadMark",
    "SimulatedSend",
    "Simulator",
    "StatusPlan",
    "mixed_load",
    "people",
    "twilio_load",
]
