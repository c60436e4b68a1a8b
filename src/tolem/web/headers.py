"""The security headers of every page that a payer sees. Called by the app for each HTML answer.

Invariant: a page loads, sends and embeds nothing but its own origin, except what a caller names here: the access
control server that a form may lead to, and the shops that may frame the page.
"""

from collections.abc import Sequence

_FIXED = (
    # no-referrer would make Chromium post `Origin: null`, and a foreign origin could not be told from ours.
    (b"referrer-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    # Cuts the tie to a window that opened this one, so that it can't be led elsewhere while a payer types.
    (b"cross-origin-opener-policy", b"same-origin"),
    (
        b"permissions-policy",
        b"camera=(), display-capture=(), geolocation=(), microphone=(), midi=(), payment=(), usb=()",
    ),
    (b"x-robots-tag", b"noindex"),
)


SELF = "'self'"


def security_headers(
    form_action_extra: Sequence[str] = (), frame_ancestors: Sequence[str] = (), frame_src: Sequence[str] = ()
) -> list[tuple[bytes, bytes]]:
    """Headers of an HTML answer. Origins as `https://host:port`, or SELF: `form_action_extra` may be posted to, and
    may follow a posted form by a redirect; `frame_ancestors` may frame the page, `frame_src` may stand in its frames
    and be asked whether they can be reached (by default only SELF is asked). Raises ValueError for what is no
    origin."""
    for origin in (*form_action_extra, *frame_ancestors, *frame_src):
        is_plain = origin.isascii() and origin.isprintable() and not any(char in " ;,'\"" for char in origin)
        if origin != SELF and not is_plain:
            raise ValueError(f"{origin!r} is not an origin")
    posts_to = " ".join((SELF, *form_action_extra))
    framed_by = " ".join(frame_ancestors) or "'none'"
    frames = f"frame-src {' '.join(frame_src)}; " if frame_src else ""
    asks = " ".join(frame_src) or SELF
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        f"connect-src {asks}; {frames}form-action {posts_to}; frame-ancestors {framed_by}; base-uri 'none'"
    )
    headers = [(b"content-security-policy", policy.encode()), *_FIXED]
    return headers if frame_ancestors else [*headers, (b"x-frame-options", b"DENY")]
