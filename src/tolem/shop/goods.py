"""What the shop sells. Prices are whole tenge."""

from dataclasses import dataclass

CURRENCY = "KZT"


@dataclass(frozen=True, slots=True)
class Good:
    """One article. Texts are (ru, en); the illustration of the same key is in templates/art.html."""

    key: str
    price: int
    name: tuple[str, str]
    note: tuple[str, str]
    measure: tuple[str, str]


GOODS = (
    Good(
        "tea",
        1850,
        ("Чай «Таң»", "“Tañ” morning tea"),
        (
            "Крупный чёрный лист, просит молока и неспешного утра",
            "Large black leaf that asks for milk and a slow morning",
        ),
        ("100 г", "100 g"),
    ),
    Good(
        "nan",
        350,
        ("Тандырный нан", "Tandoor nan"),
        ("Утренний, с кунжутом, ещё тёплый до полудня", "Baked at dawn with sesame, warm until noon"),
        ("1 лепёшка", "one loaf"),
    ),
    Good(
        "baursak",
        900,
        ("Баурсаки", "Baursaks"),
        ("Золотые и лёгкие; дюжины хватает на двоих", "Golden and light; a dozen is enough for two"),
        ("12 штук", "12 pieces"),
    ),
    Good(
        "honey",
        3200,
        ("Мёд с предгорий", "Foothill honey"),
        ("Разнотравье Заилийского Алатау, густой и светлый", "Wild flowers of the Ile Alatau, thick and pale"),
        ("250 г", "250 g"),
    ),
    Good(
        "kurt",
        1400,
        ("Курт солёный", "Salted kurt"),
        (
            "Сушёный творог в дорогу\u00a0— к чаю или вместо разговора",
            "Dried curd for the road, with tea or instead of talk",
        ),
        ("200 г", "200 g"),
    ),
    Good(
        "jam",
        2100,
        ("Варенье из апорта", "Aport apple jam"),
        ("Яблоки Алматы, сваренные дольками", "Apples of Almaty, simmered in slices"),
        ("300 г", "300 g"),
    ),
)

_BY_KEY = {good.key: good for good in GOODS}


def find_good(key: str) -> Good | None:
    """The article of that key, or None."""
    return _BY_KEY.get(key)
