"""What the pages of people show: a campaign whose links were opened, two contacts that may be one, and traffic."""

from dataclasses import dataclass

from providers.simulator import Person
from tests.browser.console.stage import HOSTILE, ConsoleStage
from tests.support.scenes import Device, Shop, email, links_in, page, phone
from tests.support.talk import ends
from tests.support.world import NUMBER

CAMPAIGN = f"spring sale {HOSTILE[:30]}"


@dataclass
class PeopleScene:
    """Ids of what pages are about. `nadia` is on WhatsApp, opened a link, registered; `other` may be her, too."""

    stage: ConsoleStage
    shop: Shop
    nadia: str
    other: str
    visitor: str
    link: str
    message: str

    @property
    def pages(self) -> dict[str, str]:
        """Paths of all the pages, by name."""
        whose = f"?service={self.stage.helpdesk.id}"
        return {
            "contacts": "/console/contacts",
            "found": f"/console/contacts?q={'Nadia'}",
            "nobody": "/console/contacts?q=nobody@example.com",
            "contact": f"/console/contacts/{self.nadia}",
            "timeline": f"/console/contacts/{self.nadia}/timeline",
            "operations": f"/console/contacts/{self.nadia}/operations",
            "consent": f"/console/contacts/{self.nadia}/consent",
            "visitor": f"/console/visitors/{self.visitor}",
            "candidates": "/console/merge-candidates",
            "merge": f"/console/merge?keep={self.other}&merge={self.nadia}",
            "campaigns": "/console/campaigns",
            "campaign": f"/console/campaigns/{CAMPAIGN.replace('/', '%2F').replace('?', '%3F')}{whose}",
            "link": f"/console/links/{self.link}",
            "links": f"/console/messages/{self.message}/links",
            "traffic": "/console/traffic",
            "week": "/console/traffic?span=week",
        }


async def play_people(stage: ConsoleStage) -> PeopleScene:
    """Over HTTP, as services, customers and browsers do."""
    shop = Shop(stage.world, stage.database_url, stage.helpdesk, stage.crm, stage.marketing)
    device, mine, mail = shop.device(), phone(), email("nadia")
    await device.views(page("before"))
    sent = await shop.whatsapp(Person(mine, name="Nadia Brandt"), f"Your order is on its way: {page('order')}")
    await device.opens(sent.link)
    await shop.declares(
        email=mail, handle=await device.handle(), external_id=f"kd-{mine}", name="Nadia Brandt",
        traits={"plan": "gold", "orders": 7, "note": HOSTILE},
    )  # fmt: skip
    nadia = (await shop.contact(mine))["id"]
    friend = shop.device()
    await friend.opens(sent.link)
    await shop.crm.call("PUT", f"/v1/consents/sms/{mine}", {"status": "granted", "evidence": "Form on the web site"})
    other_phone = phone()
    await shop.hears(shop.customer(other_phone, "sms"), "Is my order there yet? Nadia")
    await shop.declares(email=mail, phone=other_phone)
    other = (await shop.contacts(other_phone))[0]["id"]
    message, link = await _campaign(shop, mine, device)
    binding = (await shop.contact(mine))["bindings"][0]
    return PeopleScene(stage, shop, nadia, other, binding["visitor_id"], link, message)


async def _campaign(shop: Shop, mine: str, device: Device) -> tuple[str, str]:
    """Six people get it, three open it, one of them is known; a messenger looks ahead."""
    people = [mine, *(phone() for _ in range(5))]
    first = ""
    for n, each in enumerate(people):
        await shop.agrees(each, "granted", "sms")
        customer = shop.customer(each, "sms")
        wanted = {
            "to": each, "from": NUMBER, "medium": "sms", "origin": "campaign", "campaign": CAMPAIGN,
            "type": "text", "text": f"The sale has begun: {page('sale')}",
        }  # fmt: skip
        answer = await shop.crm.call("POST", "/v1/messages?wait=10", wanted)
        assert answer.status == 202, answer
        message = str(answer.json["message"]["id"])
        await ends(shop.crm, message, "delivered", "read")
        first = first or message
        (found,) = links_in(str(customer.received[-1].body))
        if n < 3:
            who = device if n == 0 else shop.device()
            await who.opens(found)
        if n == 4:
            await shop.device(agent="WhatsApp/2.24.6.77 A").taps(found)
    view = await shop.crm.call("GET", f"/v1/messages/{first}/links")
    return first, str(view.json["items"][0]["id"])
