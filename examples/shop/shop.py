"""The shop's backend: it serves the pages, takes orders, and tells the hub who ordered."""

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from aiohttp import web

from examples.shop import pages
from examples.shop.goods import PRODUCTS, Product
from examples.shop.hub import Hub, Refused, signed
from partyline_client import HubError

HERE = Path(__file__).parent
LOGIN = "session"
ANSWERS = ("granted", "denied")


class Shop:
    """One shop. `tracker` is where its pages load the tracker from; `secret`: what it signs `hub.identify` with."""

    def __init__(self, hub: Hub, tracker: str, secret: str, *, say: Callable[[str], None] = print) -> None:
        self.hub, self.tracker, self.say = hub, tracker.rstrip("/"), say
        self._secret = secret
        self._customers: dict[str, str] = {}  # session -> email; a real shop has a database, and passwords
        self._orders: list[Product] = []

    def build_app(self) -> web.Application:
        """The HTTP server."""
        app = web.Application(middlewares=[self._protect])
        app.router.add_get("/", self._home)
        app.router.add_get("/pots/{slug}", self._pot)
        app.router.add_get("/checkout", self._checkout)
        app.router.add_post("/orders", self._order)
        app.router.add_get("/orders/{number:[0-9]{1,6}}", self._thanks)
        app.router.add_get("/account", self._account)
        app.router.add_post("/account/signature", self._sign)
        app.router.add_post("/login", self._log_in)
        app.router.add_post("/logout", self._log_out)
        for name in ("shop.css", "shop.js", "icon.svg"):
            app.router.add_get(f"/{name}", self._file)
        return app

    # Pages -----------------------------------------------------------------------------------------------------------

    async def _home(self, request: web.Request) -> web.Response:
        return self._page(request, "Pots", pages.home())

    async def _pot(self, request: web.Request) -> web.Response:
        product = PRODUCTS.get(request.match_info["slug"])
        if product is None:
            return self._page(request, "Nothing here", pages.missing(), status=404)
        return self._page(request, product.name, pages.pot(product))

    async def _checkout(self, request: web.Request) -> web.Response:
        product = PRODUCTS.get(request.query.get("pot", ""))
        if product is None:
            raise web.HTTPSeeOther("/")
        return self._form(request, product, {"email": self._customer(request)}, {})

    async def _thanks(self, request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        if not 0 < number <= len(self._orders):
            return self._page(request, "Nothing here", pages.missing(), status=404)
        return self._page(request, "Thank you", pages.thanks(number, self._orders[number - 1]))

    async def _account(self, request: web.Request) -> web.Response:
        customer = self._customer(request)
        return self._page(request, "Your account", pages.account(customer) if customer else pages.login())

    # What customers do -----------------------------------------------------------------------------------------------

    async def _order(self, request: web.Request) -> web.Response:
        """Take an order. An address that is paid with is declared: consent counts, a new number replaces the old."""
        typed = {name: str(value).strip() for name, value in (await request.post()).items()}
        product = PRODUCTS.get(typed.get("pot", ""))
        if product is None:
            raise web.HTTPSeeOther("/")
        consents = ["sms"] if typed.get("texts") and typed.get("phone") else []
        if request.cookies.get("consent") == "granted" and request.headers.get("Sec-GPC") != "1":
            consents.append("tracking")  # what was agreed to in the banner now holds for a person, too
        try:
            contact = await self.hub.identify(
                handle=typed.get("handle"), email=typed.get("email"), phone=typed.get("phone"), consents=consents
            )
            self.say(f"shop: {product.name} for {contact}")
        except Refused as refused:
            if faults := {name: text for name, text in refused.faults.items() if name in {"email", "phone"}}:
                return self._form(request, product, typed, faults)
            self.say(f"shop: the hub did not take it: {refused}")
        except HubError as error:
            self.say(f"shop: the hub was not told: {error!r}")  # a real shop tries again later; the order stands
        self._orders.append(product)
        raise web.HTTPSeeOther(f"/orders/{len(self._orders)}")

    async def _sign(self, request: web.Request) -> web.Response:
        """Sign who is logged in, for the visitor behind this handle. The cookie is SameSite: no other site can ask."""
        customer, handle = self._customer(request), str((await request.post()).get("handle", ""))
        if not customer or not handle:
            return web.json_response({"error": "nobody is logged in"}, status=403)
        return web.json_response(signed(self._secret, handle, email=customer))

    async def _log_in(self, request: web.Request) -> web.Response:
        email = str((await request.post()).get("email", "")).strip()
        response = web.Response(status=303, headers={"Location": "/account"})
        if email:
            session = secrets.token_urlsafe(24)
            self._customers[session] = email
            response.set_cookie(LOGIN, session, httponly=True, samesite="Lax", secure=request.secure)
        return response

    async def _log_out(self, request: web.Request) -> web.Response:
        self._customers.pop(request.cookies.get(LOGIN, ""), None)
        response = web.Response(status=303, headers={"Location": "/"})
        response.del_cookie(LOGIN)
        return response

    # Serving ---------------------------------------------------------------------------------------------------------

    def _customer(self, request: web.Request) -> str:
        return self._customers.get(request.cookies.get(LOGIN, ""), "")

    def _form(
        self, request: web.Request, product: Product, typed: Mapping[str, str], faults: Mapping[str, str]
    ) -> web.Response:
        main = pages.checkout(product, typed, faults)
        return self._page(request, "Checkout", main, status=422 if faults else 200)

    def _page(self, request: web.Request, title: str, main: str, status: int = 200) -> web.Response:
        answer = request.cookies.get("consent", "")
        text = pages.page(
            title,
            main,
            tracker=self.tracker,
            consent=answer if answer in ANSWERS else "",
            customer=self._customer(request),
        )
        return web.Response(text=text, content_type="text/html", status=status, headers={"Cache-Control": "no-store"})

    async def _file(self, request: web.Request) -> web.FileResponse:
        return web.FileResponse(HERE / request.path[1:])

    @web.middleware
    async def _protect(self, request: web.Request, handler: Callable[[web.Request], object]) -> web.StreamResponse:
        """A strict policy: of other hosts, only the tracker's."""
        try:
            response: web.StreamResponse = await handler(request)  # type: ignore[misc]
        except web.HTTPException as error:
            response = error
        response.headers["Content-Security-Policy"] = (
            f"default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self' {self.tracker}; "
            f"connect-src 'self' {self.tracker}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        response.headers["X-Content-Type-Options"] = "nosniff"
        if isinstance(response, web.HTTPException):
            raise response
        return response
