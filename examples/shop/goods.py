"""What the shop sells."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Product:
    """A pot. `shape`: the path of its picture, in a square of 100; `colour`: of its clay."""

    slug: str
    name: str
    price: int
    text: str
    colour: str
    shape: str


PRODUCTS = {
    product.slug: product
    for product in (
        Product(
            "low-bowl",
            "Low bowl",
            38,
            "Wide and shallow, for mosses and everything else that spreads rather than climbs. Thrown in one piece, "
            "glazed inside only, so that the clay can breathe.",
            "#b9653f",
            "M14 58h72c0 18-13 30-28 30H42C27 88 14 76 14 58z",
        ),
        Product(
            "tall-cylinder",
            "Tall cylinder",
            52,
            "For roots that go down. Stands on three feet, so water leaves and the floor stays dry. "
            "Fits a plant of up to a metre.",
            "#5f7161",
            "M32 40h36v44c0 3-2 5-5 5H37c-3 0-5-2-5-5z",
        ),
        Product(
            "round-belly",
            "Round belly",
            45,
            "Narrow at the neck and generous below: it keeps moisture for a week. The one to leave alone while "
            "you are away.",
            "#c59a5a",
            "M38 42h24c2 6 18 12 18 26 0 12-10 21-30 21S20 80 20 68c0-14 16-20 18-26z",
        ),
    )
}
