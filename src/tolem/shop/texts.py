"""The shop's words in Russian and English, and which of the two a visitor reads.

Used by the templates as t("key"). Invariant: every text exists in both languages (the pair makes it so).
"""

from datetime import datetime, timedelta, timezone
from decimal import Decimal

LANGUAGES = ("ru", "en")

MAYBE_HELD = (454, 459, 460)
"""Reason codes after which nobody may say that nothing was taken (docs/protocol.md §10)."""

_SHOP_TIME = timezone(timedelta(hours=5), "UTC+5")  # Kazakhstan has one time zone

TEXTS = {
    "shop": ("Дәм", "Däm"),
    "tagline": ("чай, хлеб и всё, что к ним", "tea, bread and what goes with them"),
    "welcome": ("Лавка на углу, где всегда кипит самовар", "The corner shop where the samovar is always on"),
    "welcome_note": (
        "Хлеб из тандыра утром, чай весь день. Выберите, что положить в бумажный пакет.",
        "Bread from the tandoor in the morning, tea all day. Choose what goes into the paper bag.",
    ),
    "buy": ("Купить", "Buy"),
    "other_language": ("In English", "По-русски"),
    "home": ("К полкам", "Back to the shelves"),
    "footer": (
        "Учебный магазин: ничего не привезёт, зато честно показывает, как проходит оплата через",
        "A demo shop: it delivers nothing, and shows honestly how a payment goes through",
    ),
    "order": ("Заказ", "Order"),
    "total": ("Итого", "Total"),
    "to_pay": ("К оплате", "To pay"),
    "pay": ("Оплатить", "Pay"),
    "pay_again": ("Оплатить ещё раз", "Pay again"),
    "renew": ("Продолжить к оплате", "Continue to payment"),
    "pay_note": ("Карту вы введёте на странице банка, не у нас.", "You enter the card on the bank's page, not here."),
    "no_script": (
        "Для перехода к оплате нужен JavaScript: страницу банка открывает его библиотека payment-api.js.",
        "Going to payment needs JavaScript: the bank's page is opened by its library, payment-api.js.",
    ),
    "no_library": (
        "Страница оплаты сейчас недоступна: её библиотека не загрузилась. Обновите страницу через минуту.",
        "The payment page can't be reached now: its library did not load. Reload this page in a minute.",
    ),
    "status_waiting": ("Ждёт оплаты", "Waiting for payment"),
    "status_paid": ("Оплачен", "Paid"),
    "status_declined": ("Не оплачен", "Not paid"),
    "status_cancelled": ("Отменён", "Cancelled"),
    "status_refunded": ("Деньги возвращены", "Refunded"),
    "stamp": ("оплачено", "paid"),
    "thanks": ("Рақмет! Уже заворачиваем.", "Rakhmet! We are wrapping it up."),
    "cancelled_note": (
        "Удержание на карте снято, деньги не списаны.",
        "The hold on the card is released, nothing was taken.",
    ),
    "refunded_note": (
        "Всё, что было списано, возвращено на карту.",
        "All that was taken is given back to the card.",
    ),
    "operation_charge": ("Списано", "Charged"),
    "operation_cancel": ("Удержание снято", "Hold released"),
    "operation_refund": ("Возвращено", "Given back"),
    "declined": ("Оплата не прошла", "The payment did not go through"),
    "declined_note": (
        "Деньги не списаны. Можно попробовать ещё раз, с той же картой или с другой.",
        "Nothing was taken. You can try again, with the same card or with another.",
    ),
    "maybe_held_note": (
        "Банк мог придержать сумму. Прежде чем платить снова, спросите банк карты.",
        "The bank may be holding the amount. Ask the card's bank before you pay again.",
    ),
    "confirming": ("Ждём подтверждения банка", "Waiting for the bank's confirmation"),
    "confirming_note": (
        "Вы вернулись в лавку, а банк ещё не сообщил нам итог. Обычно это секунды; страница обновится сама.",
        "You are back in the shop, and the bank has not told us the outcome yet. It takes seconds as a rule; "
        "this page refreshes itself.",
    ),
    "confirming_stopped": (
        "Банк всё ещё молчит. Мы не гадаем: как только он ответит, заказ изменится. Загляните позже.",
        "The bank is still silent. We don't guess: the order changes as soon as it answers. Come back later.",
    ),
    "refresh": ("Обновить", "Refresh"),
    "not_paid_yet": ("Ещё не платили? Вернуться к заказу", "Have not paid yet? Back to the order"),
    "card": ("Карта", "Card"),
    "reference": ("Номер операции (RRN)", "Reference (RRN)"),
    "approval_code": ("Код авторизации", "Approval code"),
    "placed": ("Принят", "Placed"),
    "counter": ("За прилавком", "Behind the counter"),
    "counter_note": (
        "Что видит сервер магазина. Статус заказа меняет только проверенное уведомление postLink.",
        "What the shop's server sees. Only a verified postLink notification changes the order's status.",
    ),
    "no_notifications": (
        "Уведомлений ещё не было. Банк пришлёт их сюда:",
        "No notification yet. The bank will send them here:",
    ),
    "pay_object": ("Объект для halyk.pay()", "The object for halyk.pay()"),
    "test_cards": ("Карты песочницы", "Sandbox cards"),
    "test_cards_note": ("Любой будущий срок, любой CVC из трёх цифр.", "Any future expiry, any three-digit CVC."),
    "test_approved": ("одобрит", "approved"),
    "test_declined": ("откажет", "declined"),
    "notification_accepted": ("Проверено и принято", "Verified and accepted"),
    "notification_repeated": ("Повтор, уже принято", "A repeat, already accepted"),
    "notification_overtaken": ("Проверено, но заказ уже оплачен", "Verified, but the order is already paid"),
    "notification_rejected": ("Отклонено", "Rejected"),
    "outcome_paid": ("оплачено", "paid"),
    "outcome_declined": ("отказ", "declined"),
    "outcome_charge": ("списание", "charge"),
    "outcome_cancel": ("отмена", "cancel"),
    "outcome_refund": ("возврат", "refund"),
    "trouble_gateway": ("Банк пока не открыл оплату", "The bank did not open the payment"),
    "trouble_temporary": (
        "Платёжный шлюз не отвечает. Заказ сохранён, деньги не списаны: попробуйте через минуту.",
        "The payment gateway does not answer. The order is kept and nothing was taken: try again in a minute.",
    ),
    "trouble_refused": (
        "Платёжный шлюз отказался принять заказ. Заказ сохранён, деньги не списаны.",
        "The payment gateway refused the order. The order is kept and nothing was taken.",
    ),
    "gateway_said": ("Ответ шлюза", "The gateway said"),
    "code": ("код", "code"),
    "try_again": ("Попробовать ещё раз", "Try again"),
    "trouble_404": ("Такой полки у нас нет", "We have no such shelf"),
    "trouble_404_note": ("Проверьте адрес или номер заказа.", "Check the address or the order's number."),
    "trouble_request": ("Так у нас не покупают", "That is not how one buys here"),
    "trouble_request_note": (
        "Запрос пришёл не со страницы лавки или испорчен в пути. Вернитесь к полкам и нажмите «Купить».",
        "The request did not come from a page of this shop, or was damaged on its way. Go back to the shelves "
        "and press “Buy”.",
    ),
    "trouble_500": ("У нас что-то упало с полки", "Something fell off a shelf"),
    "trouble_500_note": (
        "Это наша ошибка. Заказы и оплаты записаны и никуда не делись.",
        "It is our mistake. Orders and payments are on the books and safe.",
    ),
}

REASONS = {
    454: ("Банк ещё выясняет, прошла ли оплата", "The bank is still finding out whether it went through"),
    455: ("Не удалось проверить карту через 3-D Secure", "The card could not be checked by 3-D Secure"),
    457: ("Неверный срок действия карты", "Wrong expiry date"),
    465: ("На карте ограничение", "The card is restricted"),
    467: ("Карта заблокирована", "The card is blocked"),
    473: ("Банк карты не подтвердил, что платите вы", "The card's bank did not confirm that it is you"),
    476: ("Оплата не завершена: вы вернулись или вышло время", "Not completed: you came back, or the time ran out"),
    478: ("Срок действия карты истёк", "The card has expired"),
    484: ("Недостаточно денег на карте", "Not enough money on the card"),
    485: ("Срок действия карты истёк", "The card has expired"),
    488: ("Сумма больше лимита карты", "Above the card's limit"),
    491: ("Слишком много операций по карте", "Too many operations with the card"),
}
"""The commonest reason codes in the payer's words (docs/protocol.md §10); others are shown in the gateway's."""


def translate(pair: tuple[str, str], language: str) -> str:
    """The text of a (ru, en) pair in that language."""
    return pair[LANGUAGES.index(language)]


def explain(reason_code: int, reason: str, language: str) -> str:
    """Why a payment failed, for the payer; the gateway's own words where the shop has none."""
    return translate(REASONS[reason_code], language) if reason_code in REASONS else reason


def choose_language(asked: str | None, accept_language: str) -> str:
    """`?lang` first, then Accept-Language (RFC 9110 §12.5.4); Russian if neither names one of the shop's two."""
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
