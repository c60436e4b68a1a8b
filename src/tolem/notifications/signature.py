"""The signature of a notification: headers of the Standard Webhooks specification, beside the body that shops know.

Pure. Called by flows.signing with the terminal's live secrets; docs/notifications.md tells shops how to verify.
"""

import base64
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeAlias

from tolem.domain.message import Message

Sign: TypeAlias = Callable[[Message, datetime], Awaitable[Mapping[str, str]]]
"""Headers for a message that is about to be sent, given the real time. Raises CannotOpen."""


def render_headers(message_id: str, at: datetime, body: bytes, secrets: Sequence[bytes]) -> dict[str, str]:
    """`webhook-id`, `webhook-timestamp` and, if there are secrets, `webhook-signature` with one signature for each.

    `at`: the real time of this try, since receivers refuse what is older than minutes; kept to whole seconds.
    """
    timestamp = str(int(at.timestamp()))
    headers = {"webhook-id": message_id, "webhook-timestamp": timestamp}
    if secrets:
        content = b".".join((message_id.encode(), timestamp.encode(), body))
        headers["webhook-signature"] = " ".join(f"v1,{_sign(secret, content)}" for secret in secrets)
    return headers


def _sign(secret: bytes, content: bytes) -> str:
    return base64.b64encode(hmac.digest(secret, content, hashlib.sha256)).decode()
