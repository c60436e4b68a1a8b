"""Amounts and instants as a payer in Kazakhstan reads them. Called by the pages.

An amount looks the same in every language, `1 234,50 ₸`: it is compared with the shop's page and the bank's message,
and those are written so whatever the language.
"""

from datetime import datetime, timedelta, timezone
from functools import lru_cache

from babel.dates import format_datetime

from tolem.domain.money import EXPONENTS

ALMATY = timezone(timedelta(hours=5), "Asia/Almaty")
"""UTC+5 in the whole country since 1 March 2024; fixed here, since older time zone tables of systems say UTC+6."""

SYMBOLS = {"KZT": "₸", "USD": "$", "EUR": "€", "RUB": "₽", "GBP": "£"}
"""Signs that stand for one currency only; the others show their code."""

_NBSP = "\u00a0"
_PATTERNS = {"ru": "d MMMM y 'г.', HH:mm", "kk": "y 'ж.' d MMMM, HH:mm", "en": "d MMMM y, HH:mm"}


def format_amount(amount: int, currency: str) -> str:
    """Minor units → `1 234,50 ₸`, with no-break spaces; whole amounts without a fraction: `800 ₸`."""
    exponent = EXPONENTS[currency]
    whole, fraction = divmod(amount, 10**exponent)
    digits = f"{whole:,}".replace(",", _NBSP)
    if fraction:
        digits = f"{digits},{fraction:0{exponent}d}"
    return f"{digits}{_NBSP}{SYMBOLS.get(currency, currency)}"


def format_instant(at: datetime, language: str) -> str:
    """An aware instant → date and time to the minute, Almaty time: `24 ноября 2026 г., 14:05`."""
    return _format(at.replace(second=0, microsecond=0), _PATTERNS[language], language)


def format_time(at: datetime, language: str) -> str:
    """An aware instant → `14:05`, Almaty time."""
    return _format(at.replace(second=0, microsecond=0), "HH:mm", language)


@lru_cache(maxsize=512)  # thousands of payers look at the same few minutes
def _format(minute: datetime, pattern: str, language: str) -> str:
    return format_datetime(minute.astimezone(ALMATY), pattern, locale=language)
