"""The shop's words in Russian, Kazakh and English, and which of them a visitor reads.

Used by the templates as t("key"). Invariant: every text exists in all languages (its type makes it so).
"""

from datetime import datetime, timedelta, timezone
from decimal import Decimal

LANGUAGES = ("ru", "kk", "en")
LANGUAGE_NAMES = {"ru": "Русский", "kk": "Қазақша", "en": "English"}

Words = tuple[str, str, str]
"""The same in each of LANGUAGES."""

MAYBE_HELD = (454, 459, 460)
"""Reason codes after which nobody may say that nothing was taken (docs/protocol.md §10)."""

_SHOP_TIME = timezone(timedelta(hours=5), "UTC+5")  # Kazakhstan has one time zone

TEXTS: dict[str, Words] = {
    "shop": ("Дәм", "Дәм", "Däm"),
    "tagline": (
        "чай, хлеб и всё, что к ним",
        "шай, нан және дастарқанға керектің бәрі",
        "tea, bread and what goes with them",
    ),
    "welcome": (
        "Лавка на углу, где всегда кипит самовар",
        "Самауыры үнемі қайнап тұратын бұрыштағы дүкен",
        "The corner shop where the samovar is always on",
    ),
    "welcome_note": (
        "Хлеб из тандыра утром, чай весь день. Выберите, что положить в бумажный пакет.",
        "Таңертең тандыр наны, күні бойы шай. Қағаз қапқа не салатынымызды таңдаңыз.",
        "Bread from the tandoor in the morning, tea all day. Choose what goes into the paper bag.",
    ),
    "buy": ("Купить", "Алу", "Buy"),
    "home": ("К полкам", "Сөрелерге", "Back to the shelves"),
    "footer": (
        "Учебный магазин: ничего не привезёт, зато честно показывает, как проходит оплата через",
        "Оқу дүкені: ештеңе жеткізбейді, бірақ төлемнің қалай өтетінін ашық көрсетеді:",
        "A demo shop: it delivers nothing, and shows honestly how a payment goes through",
    ),
    "order": ("Заказ", "Тапсырыс", "Order"),
    "total": ("Итого", "Барлығы", "Total"),
    "to_pay": ("К оплате", "Төлеуге", "To pay"),
    "pay": ("Оплатить", "Төлеу", "Pay"),
    "pay_widget": ("Оплатить на этой странице", "Осы бетте төлеу", "Pay in a widget on this page"),
    "pay_again": ("Оплатить ещё раз", "Қайта төлеу", "Pay again"),
    "renew": ("Продолжить к оплате", "Төлемге өту", "Continue to payment"),
    "pay_note": (
        "Карту вы введёте на странице банка, не у нас.",
        "Карта деректерін бізге емес, банк бетінде енгізесіз.",
        "You enter the card on the bank's page, not here.",
    ),
    "no_script": (
        "Для перехода к оплате нужен JavaScript: страницу банка открывает его библиотека payment-api.js.",
        "Төлемге өту үшін JavaScript керек: банк бетін оның payment-api.js кітапханасы ашады.",
        "Going to payment needs JavaScript: the bank's page is opened by its library, payment-api.js.",
    ),
    "still_open": (
        "Оплаты пока нет. Если банк ещё проверяет платёж, статус обновится здесь.",
        "Төлем әзірге түскен жоқ. Банк төлемді әлі тексеріп жатса, күйі осы жерде жаңарады.",
        "Not paid so far. If the bank is still checking a payment, the status changes here.",
    ),
    "no_library": (
        "Страница оплаты сейчас недоступна: её библиотека не загрузилась. Обновите страницу через минуту.",
        "Төлем беті қазір қолжетімсіз: кітапханасы жүктелмеді. Бір минуттан кейін бетті жаңартыңыз.",
        "The payment page can't be reached now: its library did not load. Reload this page in a minute.",
    ),
    "status_waiting": ("Ждёт оплаты", "Төлем күтілуде", "Waiting for payment"),
    "status_paid": ("Оплачен", "Төленді", "Paid"),
    "status_declined": ("Не оплачен", "Төленген жоқ", "Not paid"),
    "status_cancelled": ("Отменён", "Бас тартылды", "Cancelled"),
    "status_refunded": ("Деньги возвращены", "Ақша қайтарылды", "Refunded"),
    "stamp": ("оплачено", "төленді", "paid"),
    "thanks": ("Рақмет! Уже заворачиваем.", "Рақмет! Орап жатырмыз.", "Rakhmet! We are wrapping it up."),
    "cancelled_note": (
        "Удержание на карте снято, деньги не списаны.",
        "Картадағы бұғат алынды, ақша алынған жоқ.",
        "The hold on the card is released, nothing was taken.",
    ),
    "refunded_note": (
        "Всё, что было списано, возвращено на карту.",
        "Алынған ақшаның бәрі картаға қайтарылды.",
        "All that was taken is given back to the card.",
    ),
    "operation_charge": ("Списано", "Алынды", "Charged"),
    "operation_cancel": ("Удержание снято", "Бұғат алынды", "Hold released"),
    "operation_refund": ("Возвращено", "Қайтарылды", "Given back"),
    "declined": ("Оплата не прошла", "Төлем өтпеді", "The payment did not go through"),
    "declined_note": (
        "Деньги не списаны. Можно попробовать ещё раз, с той же картой или с другой.",
        "Ақша алынған жоқ. Сол картамен немесе басқа картамен қайталап көруге болады.",
        "Nothing was taken. You can try again, with the same card or with another.",
    ),
    "maybe_held_note": (
        "Банк мог придержать сумму. Прежде чем платить снова, спросите банк карты.",
        "Банк соманы бұғаттаған болуы мүмкін. Қайта төлемес бұрын картаңыздың банкінен сұраңыз.",
        "The bank may be holding the amount. Ask the card's bank before you pay again.",
    ),
    "confirming": ("Ждём подтверждения банка", "Банктің растауын күтудеміз", "Waiting for the bank's confirmation"),
    "confirming_note": (
        "Вы вернулись в лавку, а банк ещё не сообщил нам итог. Обычно это секунды; страница обновится сама.",
        "Сіз дүкенге оралдыңыз, ал банк нәтижесін әлі хабарлаған жоқ. Бұл бірнеше секунд алады; бет өзі жаңарады.",
        "You are back in the shop, and the bank has not told us the outcome yet. It takes seconds as a rule; "
        "this page refreshes itself.",
    ),
    "confirming_stopped": (
        "Банк всё ещё молчит. Мы не гадаем: как только он ответит, заказ изменится. Загляните позже.",
        "Банк әлі үнсіз. Біз болжам жасамаймыз: ол жауап берген бойда тапсырыс өзгереді. Кейінірек кіріңіз.",
        "The bank is still silent. We don't guess: the order changes as soon as it answers. Come back later.",
    ),
    "refresh": ("Обновить", "Жаңарту", "Refresh"),
    "not_paid_yet": (
        "Ещё не платили? Вернуться к заказу",
        "Әлі төлеген жоқсыз ба? Тапсырысқа оралу",
        "Have not paid yet? Back to the order",
    ),
    "card": ("Карта", "Карта", "Card"),
    "reference": ("Номер операции (RRN)", "Операция нөмірі (RRN)", "Reference (RRN)"),
    "approval_code": ("Код авторизации", "Мақұлдау коды", "Approval code"),
    "placed": ("Принят", "Қабылданды", "Placed"),
    "counter": ("За прилавком", "Сөренің ар жағы", "Behind the counter"),
    "counter_note": (
        "Что видит сервер магазина. Статус заказа меняет только проверенное уведомление postLink.",
        "Дүкен сервері не көріп тұр. Тапсырыс күйін тек тексерілген postLink хабарламасы өзгертеді.",
        "What the shop's server sees. Only a verified postLink notification changes the order's status.",
    ),
    "no_notifications": (
        "Уведомлений ещё не было. Банк пришлёт их сюда:",
        "Хабарлама әлі келген жоқ. Банк оны мына жерге жібереді:",
        "No notification yet. The bank will send them here:",
    ),
    "pay_object": ("Объект для halyk.pay()", "halyk.pay() үшін нысан", "The object for halyk.pay()"),
    "test_cards": ("Карты песочницы", "Сынақ карталары", "Sandbox cards"),
    "test_cards_note": (
        "Любой будущий срок, любой CVC из трёх цифр.",
        "Мерзімі — кез келген болашақ күн, CVC — кез келген үш цифр.",
        "Any future expiry, any three-digit CVC.",
    ),
    "test_approved": ("одобрит", "мақұлдайды", "approved"),
    "test_declined": ("откажет", "қабылдамайды", "declined"),
    "notification_accepted": ("Проверено и принято", "Тексерілді және қабылданды", "Verified and accepted"),
    "notification_repeated": ("Повтор, уже принято", "Қайталау, бұрын қабылданған", "A repeat, already accepted"),
    "notification_overtaken": (
        "Проверено, но заказ уже оплачен",
        "Тексерілді, бірақ тапсырыс төленіп қойған",
        "Verified, but the order is already paid",
    ),
    "notification_rejected": ("Отклонено", "Қабылданбады", "Rejected"),
    "outcome_paid": ("оплачено", "төленді", "paid"),
    "outcome_declined": ("отказ", "бас тартылды", "declined"),
    "outcome_charge": ("списание", "ақша алу", "charge"),
    "outcome_cancel": ("отмена", "бұғатты алу", "cancel"),
    "outcome_refund": ("возврат", "қайтару", "refund"),
    "trouble_gateway": (
        "Банк пока не открыл оплату",
        "Банк төлемді әзірге ашқан жоқ",
        "The bank did not open the payment",
    ),
    "trouble_temporary": (
        "Платёжный шлюз не отвечает. Заказ сохранён, деньги не списаны: попробуйте через минуту.",
        "Төлем шлюзі жауап бермейді. Тапсырыс сақталды, ақша алынған жоқ: бір минуттан кейін қайталап көріңіз.",
        "The payment gateway does not answer. The order is kept and nothing was taken: try again in a minute.",
    ),
    "trouble_refused": (
        "Платёжный шлюз отказался принять заказ. Заказ сохранён, деньги не списаны.",
        "Төлем шлюзі тапсырысты қабылдаудан бас тартты. Тапсырыс сақталды, ақша алынған жоқ.",
        "The payment gateway refused the order. The order is kept and nothing was taken.",
    ),
    "gateway_said": ("Ответ шлюза", "Шлюздің жауабы", "The gateway said"),
    "code": ("код", "код", "code"),
    "try_again": ("Попробовать ещё раз", "Қайталап көру", "Try again"),
    "trouble_404": ("Такой полки у нас нет", "Бізде мұндай сөре жоқ", "We have no such shelf"),
    "trouble_404_note": (
        "Проверьте адрес или номер заказа.",
        "Мекенжайды немесе тапсырыс нөмірін тексеріңіз.",
        "Check the address or the order's number.",
    ),
    "trouble_request": ("Так у нас не покупают", "Бізде олай сатып алмайды", "That is not how one buys here"),
    "trouble_request_note": (
        "Запрос пришёл не со страницы лавки или испорчен в пути. Вернитесь к полкам и нажмите «Купить».",
        "Сұрау дүкен бетінен келген жоқ немесе жолда бүлінген. Сөрелерге оралып, «Алу» түймесін басыңыз.",
        "The request did not come from a page of this shop, or was damaged on its way. Go back to the shelves "
        "and press “Buy”.",
    ),
    "trouble_500": ("У нас что-то упало с полки", "Сөреден бірдеңе құлап кетті", "Something fell off a shelf"),
    "trouble_500_note": (
        "Это наша ошибка. Заказы и оплаты записаны и никуда не делись.",
        "Бұл — біздің қателігіміз. Тапсырыстар мен төлемдер жазылған, ештеңе жоғалған жоқ.",
        "It is our mistake. Orders and payments are on the books and safe.",
    ),
}

REASONS: dict[int, Words] = {
    454: (
        "Банк ещё выясняет, прошла ли оплата",
        "Банк төлемнің өткен-өтпегенін әлі анықтап жатыр",
        "The bank is still finding out whether it went through",
    ),
    455: (
        "Не удалось проверить карту через 3-D Secure",
        "Картаны 3-D Secure арқылы тексеру мүмкін болмады",
        "The card could not be checked by 3-D Secure",
    ),
    457: ("Неверный срок действия карты", "Картаның мерзімі қате", "Wrong expiry date"),
    465: ("На карте ограничение", "Картаға шектеу қойылған", "The card is restricted"),
    467: ("Карта заблокирована", "Карта бұғатталған", "The card is blocked"),
    473: (
        "Банк карты не подтвердил, что платите вы",
        "Карта банкі төлеп тұрған сіз екеніңізді растамады",
        "The card's bank did not confirm that it is you",
    ),
    476: (
        "Оплата не завершена: вы вернулись или вышло время",
        "Төлем аяқталмады: сіз оралдыңыз немесе уақыт бітті",
        "Not completed: you came back, or the time ran out",
    ),
    478: ("Срок действия карты истёк", "Картаның мерзімі өтіп кеткен", "The card has expired"),
    484: ("Недостаточно денег на карте", "Картада ақша жеткіліксіз", "Not enough money on the card"),
    485: ("Срок действия карты истёк", "Картаның мерзімі өтіп кеткен", "The card has expired"),
    488: ("Сумма больше лимита карты", "Сома картаның лимитінен асады", "Above the card's limit"),
    491: ("Слишком много операций по карте", "Картамен жасалған операция тым көп", "Too many operations with the card"),
}
"""The commonest reason codes in the payer's words (docs/protocol.md §10); others are shown in the gateway's."""


def translate(words: Words, language: str) -> str:
    """The words of that language."""
    return words[LANGUAGES.index(language)]


def explain(reason_code: int, reason: str, language: str) -> str:
    """Why a payment failed, for the payer; the gateway's own words where the shop has none."""
    return translate(REASONS[reason_code], language) if reason_code in REASONS else reason


def choose_language(asked: str | None, accept_language: str) -> str:
    """`?lang` first, then Accept-Language (RFC 9110 §12.5.4); Russian if neither names one of the shop's."""
    if asked in LANGUAGES:
        return asked
    best, best_quality = LANGUAGES[0], 0.0
    for part in accept_language[:200].lower().split(","):
        tag, _, parameters = part.strip().partition(";")
        language = tag.strip().partition("-")[0]
        quality = _quality(parameters)
        if language in LANGUAGES and quality > best_quality:
            best, best_quality = language, quality
    return best


def render_price(amount: int | Decimal) -> str:
    """Tenge as they stand on a price tag: 1 850 ₸, with spaces that don't break."""
    return f"{amount:,} ₸".replace(",", " ").replace(" ", "\u00a0")


def render_time(at: datetime) -> str:
    """Date and time in the shop's own time zone."""
    return at.astimezone(_SHOP_TIME).strftime("%d.%m.%Y %H:%M:%S")


def _quality(parameters: str) -> float:
    """The weight of a language range, 0–1; 1 where none is written."""
    name, _, value = parameters.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return min(max(float(value), 0.0), 1.0)
    except ValueError:
        return 0.0
