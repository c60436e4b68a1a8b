"""What the shop sells. Prices are whole tenge."""

from dataclasses import dataclass

from tolem.shop.texts import Words

CURRENCY = "KZT"


@dataclass(frozen=True, slots=True)
class Good:
    """One article; the illustration of the same key is in templates/art.html."""

    key: str
    price: int
    name: Words
    note: Words
    measure: Words


GOODS = (
    Good(
        "tea",
        1850,
        ("Чай «Таң»", "«Таң» шайы", "“Tañ” morning tea"),
        (
            "Крупный чёрный лист, просит молока и неспешного утра",
            "Ірі қара шай, сүт пен асықпайтын таңды сұрайды",
            "Large black leaf that asks for milk and a slow morning",
        ),
        ("100 г", "100 г", "100 g"),
    ),
    Good(
        "nan",
        350,
        ("Тандырный нан", "Тандыр нан", "Tandoor nan"),
        (
            "Утренний, с кунжутом, ещё тёплый до полудня",
            "Таңғы, күнжіті бар, түске дейін жылы",
            "Baked at dawn with sesame, warm until noon",
        ),
        ("1 лепёшка", "1 нан", "one loaf"),
    ),
    Good(
        "baursak",
        900,
        ("Баурсаки", "Бауырсақ", "Baursaks"),
        (
            "Золотые и лёгкие; дюжины хватает на двоих",
            "Алтындай әрі жеңіл; он екісі екі адамға жетеді",
            "Golden and light; a dozen is enough for two",
        ),
        ("12 штук", "12 дана", "12 pieces"),
    ),
    Good(
        "honey",
        3200,
        ("Мёд с предгорий", "Тау бөктерінің балы", "Foothill honey"),
        (
            "Разнотравье Заилийского Алатау, густой и светлый",
            "Іле Алатауының гүлдерінен, қою әрі ақшыл",
            "Wild flowers of the Ile Alatau, thick and pale",
        ),
        ("250 г", "250 г", "250 g"),
    ),
    Good(
        "kurt",
        1400,
        ("Курт солёный", "Тұзды құрт", "Salted kurt"),
        (
            "Сушёный творог в дорогу\u00a0— к чаю или вместо разговора",
            "Жолға алатын кепкен құрт\u00a0— шайға немесе әңгіменің орнына",
            "Dried curd for the road, with tea or instead of talk",
        ),
        ("200 г", "200 г", "200 g"),
    ),
    Good(
        "jam",
        2100,
        ("Варенье из апорта", "Апорт тосабы", "Aport apple jam"),
        (
            "Яблоки Алматы, сваренные дольками",
            "Тілімделіп қайнатылған Алматы алмасы",
            "Apples of Almaty, simmered in slices",
        ),
        ("300 г", "300 г", "300 g"),
    ),
)

_BY_KEY = {good.key: good for good in GOODS}


def find_good(key: str) -> Good | None:
    """The article of that key, or None."""
    return _BY_KEY.get(key)
