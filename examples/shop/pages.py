"""The shop's pages as HTML. Everything they need comes from the shop itself and the tracker's host."""

from collections.abc import Mapping
from html import escape

from examples.shop.goods import PRODUCTS, Product

NAME = "Fern & Clay"


def page(title: str, main: str, *, tracker: str, consent: str, customer: str) -> str:
    """A whole page. `consent`: the visitor's answer so far, or empty; `customer`: the email of who is logged in."""
    told = f' data-consent="{consent}"' if consent else ""
    account = "Your account" if customer else "Log in"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<script defer src="{escape(tracker)}/t.js"{told}></script>
<title>{escape(title)} - {escape(NAME)}</title>
<link rel="icon" href="/icon.svg">
<link rel="stylesheet" href="/shop.css">
<script defer src="/shop.js"></script>
</head>
<body>
<a class="skip" href="#main">Skip to content</a>
<header>
<a class="brand" href="/" data-route>{escape(NAME)}</a>
<nav aria-label="Shop"><a href="/" data-route>Pots</a> <a href="/account">{account}</a></nav>
</header>
<main id="main" tabindex="-1">
{main}
</main>
<footer>
<p>A shop that sells nothing: an example of the tracker.</p>
<p><button class="link" id="choices">Privacy choices</button></p>
</footer>
{_banner(is_hidden=bool(consent))}
{_POPUP}
</body>
</html>
"""


def _banner(*, is_hidden: bool) -> str:
    return f"""<section id="banner" aria-label="Privacy" {"hidden" if is_hidden else ""}>
<p>May we recognise you when you come back? Without it everything works as well.</p>
<div class="buttons"><button data-answer="granted">Yes, recognise me</button>
<button data-answer="denied">No, thank you</button></div>
</section>"""


_POPUP = """<dialog id="popup" aria-labelledby="popup-title">
<form method="dialog" id="texts">
<h2 id="popup-title">Ten per cent off your first pot</h2>
<p>We text you the code, and now and then what comes fresh from the kiln.</p>
<label for="popup-phone">Mobile number</label>
<input id="popup-phone" name="phone" type="tel" autocomplete="tel" required placeholder="+49 151 12345678"
 aria-describedby="popup-fault">
<p class="fault" id="popup-fault" role="alert"></p>
<div class="buttons"><button>Text me</button>
<button type="button" class="plain" id="popup-close">Not now</button></div>
</form>
</dialog>"""


def home() -> str:
    """All pots."""
    cards = "\n".join(_card(product) for product in PRODUCTS.values())
    return f"""<section class="hero"><h1>Pots with room to grow</h1>
<p>Three shapes, one wheel. Made to order, fired twice, sent in straw.</p>
<p><button id="offer">Ten per cent off your first</button></p></section>
<ul class="cards">
{cards}
</ul>"""


def _card(product: Product) -> str:
    return f"""<li><a href="/pots/{product.slug}" data-route>{_picture(product)}
<span class="name">{escape(product.name)}</span> <span class="price">€{product.price}</span></a></li>"""


def _picture(product: Product) -> str:
    """A pot with a plant in it. It says nothing that the text beside it does not."""
    leaves = "".join(
        f'<path d="M50 {top}c{x} -4 {x} -16 {x * 1.4:.0f} -22 c{-x * 0.9:.0f} 2 {-x * 1.3:.0f} 12 {-x * 1.4:.0f} 22z"/>'
        for x, top in ((-16, 46), (16, 46), (-10, 34), (10, 34), (-2, 28))
    )
    return f"""<svg viewBox="0 0 100 100" aria-hidden="true"><ellipse class="shadow" cx="50" cy="90" rx="34" ry="4"/>
<g class="leaves"><path d="M49 60V26h2v34z"/>{leaves}</g><path d="{product.shape}" fill="{product.colour}"/></svg>"""


def pot(product: Product) -> str:
    """One pot."""
    return f"""<article class="pot">{_picture(product)}
<div><h1>{escape(product.name)}</h1>
<p class="price">€{product.price}</p>
<p>{escape(product.text)}</p>
<p><a class="button" href="/checkout?pot={product.slug}">Buy it</a></p></div></article>"""


def checkout(product: Product, typed: Mapping[str, str], faults: Mapping[str, str]) -> str:
    """The form of an order, with what was typed before and what was wrong with it."""
    agreed = "checked" if typed.get("texts") else ""
    told = '<p class="fault" role="alert">Please look at what is marked below.</p>' if faults else ""
    return f"""<h1>Checkout</h1>
<p>{escape(product.name)}, €{product.price}.</p>
{told}
<form method="post" action="/orders" class="sheet" data-handle>
<input type="hidden" name="pot" value="{product.slug}">
<input type="hidden" name="handle">
{_field("email", "Email", "email", typed, faults, "required")}
{_field("phone", "Mobile number, for the courier", "tel", typed, faults, "")}
<label class="check"><input type="checkbox" name="texts" value="yes" {agreed}>
Also send me offers by text message</label>
<button>Order for €{product.price}</button>
</form>"""


def _field(name: str, label: str, kind: str, typed: Mapping[str, str], faults: Mapping[str, str], more: str) -> str:
    fault = f"This {faults[name]}." if name in faults else ""
    wrong = 'aria-invalid="true"' if fault else ""
    return f"""<label for="{name}">{label}</label>
<input id="{name}" name="{name}" type="{kind}" autocomplete="{kind}" value="{escape(typed.get(name, ""))}" {more}
 {wrong} aria-describedby="{name}-fault">
<p class="fault" id="{name}-fault">{escape(fault)}</p>"""


def thanks(number: int, product: Product) -> str:
    """After an order."""
    return f"""<h1>Thank you</h1>
<p>Order {number}: {escape(product.name)}. We throw it on Thursday and send it when it has cooled.</p>
<p><a class="button" href="/" data-route>Back to the pots</a></p>"""


def login() -> str:
    """The demo asks for no password."""
    return f"""<h1>Log in</h1>
<p>This is a demo: any address will do, and nobody asks for a password.</p>
<form method="post" action="/login" class="sheet">
{_field("email", "Email", "email", {}, {}, "required")}
<button>Log in</button>
</form>"""


def account(email: str) -> str:
    """Who is logged in. The page tells the hub so, signed by the backend."""
    return f"""<h1>Your account</h1>
<p id="signed-in" data-sign>You are logged in as <strong>{escape(email)}</strong>.</p>
<form method="post" action="/logout" id="logout"><button>Log out</button></form>"""


def missing() -> str:
    """Nothing at this address."""
    return '<h1>Nothing here</h1><p><a class="button" href="/" data-route>To the pots</a></p>'
