"""The page's own style, script and icon: read once at start, served under names that carry a hash of their content.

Called by the app (routes) and by the pages (addresses). Invariant: one name means one content for ever, so browsers may
keep it for a year; a change of content changes the name.
"""

import gzip
import hashlib
from pathlib import Path

import msgspec

STATIC = Path(__file__).parent / "static"
CONTENT_TYPES = {
    "tolem.css": b"text/css; charset=utf-8",
    "challenge.css": b"text/css; charset=utf-8",
    "page.js": b"text/javascript; charset=utf-8",
    "challenge.js": b"text/javascript; charset=utf-8",
    "sandbox.css": b"text/css; charset=utf-8",
    "sandbox.js": b"text/javascript; charset=utf-8",
    "icon.svg": b"image/svg+xml",
}


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """One static file, ready to send."""

    path: str
    """Its address: `/static/tolem.<hash>.css`."""
    content_type: bytes
    body: bytes
    gzipped: bytes
    etag: bytes
    """Strong, quoted."""

    def headers(self, *, gzipped: bool) -> list[tuple[bytes, bytes]]:
        """The answer's headers, with or without compression."""
        sent = self.gzipped if gzipped else self.body
        headers = [
            (b"content-type", self.content_type),
            (b"content-length", b"%d" % len(sent)),
            (b"etag", self.etag[:-1] + b'-gzip"' if gzipped else self.etag),
            (b"cache-control", b"public, max-age=31536000, immutable"),
            (b"vary", b"accept-encoding"),
            (b"x-content-type-options", b"nosniff"),
        ]
        return [*headers, (b"content-encoding", b"gzip")] if gzipped else headers


def load_assets() -> dict[str, Asset]:
    """File name (`tolem.css`) → asset."""
    return {name: _load(name) for name in CONTENT_TYPES}


def static_files() -> dict[str, Asset]:
    """Address → asset: everything below `/static/`."""
    return {asset.path: asset for asset in load_assets().values()}


def _load(name: str) -> Asset:
    body = (STATIC / name).read_bytes()
    digest = hashlib.sha256(body).hexdigest()[:12]
    stem, suffix = name.rsplit(".", 1)
    return Asset(
        path=f"/static/{stem}.{digest}.{suffix}",
        content_type=CONTENT_TYPES[name],
        body=body,
        gzipped=gzip.compress(body, 9, mtime=0),
        etag=f'"{digest}"'.encode(),
    )
