"""Merchants and their terminals: who may ask for what, and how their payments behave."""

import hashlib
import hmac
from datetime import datetime
from uuid import UUID

import msgspec

SECRET_LENGTH_MIN = 24
"""Characters of a client secret: machines make them, so one round of HMAC-SHA-256 keeps them (docs/decisions)."""


class Merchant(msgspec.Struct, frozen=True, kw_only=True):
    """A shop's owner, and the OAuth client by which its server speaks to us."""

    id: UUID
    client_id: str
    """The name it authenticates with; unique."""
    name: str
    """Shown to payers."""
    secret_salt: bytes
    """16 random bytes."""
    secret_hash: bytes
    """HMAC-SHA-256 of the client secret under the salt; the secret itself is shown once and kept nowhere."""
    expires_in_text: bool = False
    """True: the token answer gives `expires_in` as text, which the bank's mobile SDK wants."""
    order_token_powers: bool = False
    """True: a token issued for an order may also move that order's money, as some old integrations expect."""
    created_at: datetime


class Terminal(msgspec.Struct, frozen=True, kw_only=True):
    """A point of sale of a merchant, and the settings of its payments."""

    id: UUID
    merchant_id: UUID
    name: str
    """Shown to payers as the shop."""
    acquirer: str = "simulator"
    """Name of the connector that its payments go to."""
    currencies: tuple[str, ...] = ("KZT",)
    two_stage: bool = False
    """True: authorize (hold) first and capture by a call of the shop; False: one purchase."""
    accept_attempted: bool = True
    """A payment goes on if 3-D Secure was attempted and the issuer took no part (transStatus A)."""
    accept_not_enrolled: bool = True
    """A payment goes on if its card takes no part in 3-D Secure, or its issuer decided nothing (transStatus I)."""
    accept_unavailable: bool = False
    """A payment goes on though 3-D Secure failed for a technical reason (transStatus U): at the shop's own risk."""
    attempts_max: int = 3
    """Card attempts in one round."""
    round_minutes: int = 20
    """Deadline of a round, from the first opening of its page."""
    extension_minutes: int = 10
    """By how much a payer may extend the deadline, once in a round; 0: not at all."""
    link_hosts: tuple[str, ...] = ()
    """Hosts that a pay object may name for notifications; empty: any in the sandbox, none in production."""
    frame_hosts: tuple[str, ...] = ()
    """Hosts (`shop.example:8443`) whose pages may show the payment page in a frame; empty: any in the sandbox, none in
    production (domain/frame)."""
    seed_bodies: bool = False
    """True: notification bodies have exactly the fields of the bank's sample."""
    hold_days: int = 7
    """A hold that is neither captured nor voided by then is released, by a void that the acquirer confirms."""
    tells: tuple[str, ...] = ()
    """Which of `capture`, `void`, `refund` are told by a notification."""
    notify_gaps: tuple[int, ...] = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
    """Seconds of business time before each try of a notification; it has as many tries as there are gaps."""
    notify_jitter_percent: int = 10
    """A try may be later by up to this part of its gap, never earlier."""
    notify_connect_seconds: int = 5
    """Of a try: name, connection and TLS together."""
    notify_whole_seconds: int = 15
    """Of a try: from its first to its last byte."""
    notify_retry_after_max_seconds: int = 86_400
    """The longest wait that a shop's Retry-After may ask for."""
    notify_response_bytes: int = 2_048
    """What is read and kept of a shop's answer."""
    logo: str = ""
    """Name of the stored Logo that the page shows; empty: none."""
    colour: str = ""
    """`#rrggbb`: ground of the order and of the button on the page; empty: tolem's own."""
    text_colour: str = ""
    """`#rrggbb`: text on that ground, readable by contrast (domain/appearance)."""
    created_at: datetime


def hash_secret(salt: bytes, secret: str) -> bytes:
    """What is stored of a client secret (32 bytes)."""
    return hmac.digest(salt, secret.encode(), hashlib.sha256)


def is_secret(merchant: Merchant, secret: str) -> bool:
    """True if `secret` is the merchant's; compares in constant time."""
    return hmac.compare_digest(hash_secret(merchant.secret_salt, secret), merchant.secret_hash)
