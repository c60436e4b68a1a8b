"""The page's own styles, scripts and icon: read once at start, served under names that carry a hash of their content.

Called by the app (routes) and by the pages (addresses). Comments and indentation are for people and stay here: they are
a fifth of what a payer would load. Invariant: one name means one content for ever, so browsers may keep it for a year;
a change of content changes the name.
"""

import gzip
import hashlib
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import msgspec
from markupsafe import Markup

STATIC = Path(__file__).parent / "static"
CONTENT_TYPES = {
    "tolem.css": b"text/css; charset=utf-8",
    "challenge.css": b"text/css; charset=utf-8",
    "page.js": b"text/javascript; charset=utf-8",
    "challenge.js": b"text/javascript; charset=utf-8",
    "sandbox.css": b"text/css; charset=utf-8",
    "sandbox.js": b"text/javascript; charset=utf-8",
    "frame.css": b"text/css; charset=utf-8",
    "frame.js": b"text/javascript; charset=utf-8",
    "icon.svg": b"image/svg+xml",
}
# Scripts and styles are written so that this is safe: a comment has a line of its own, no text goes over lines.
_FOR_PEOPLE = {
    "js": re.compile(r"^[ \t]*(?://.*\n)?", re.MULTILINE),
    "css": re.compile(r"/\*.*?\*/\s*|^[ \t]+", re.MULTILINE | re.DOTALL),
}


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """One static file, ready to send."""

    path: str
    """Its address: `/static/tolem.<hash>.css`."""
    content_type: bytes
    body: bytes
    gzipped: bytes
    integrity: str
    """Of the body: a browser loads nothing else under this name (Subresource Integrity)."""

    @property
    def source(self) -> str:
        """The attributes that load a style or a script."""
        name = "href" if self.path.endswith(".css") else "src"
        return f'{name}="{self.path}" integrity="{self.integrity}"'

    def headers(self, *, gzipped: bool) -> list[tuple[bytes, bytes]]:
        """The answer's headers, with or without compression."""
        sent = self.gzipped if gzipped else self.body
        headers = [
            (b"content-type", self.content_type),
            (b"content-length", b"%d" % len(sent)),
            (b"cache-control", b"public, max-age=31536000, immutable"),
            (b"vary", b"accept-encoding"),
            (b"x-content-type-options", b"nosniff"),
        ]
        return [*headers, (b"content-encoding", b"gzip")] if gzipped else headers


@cache
def load_assets() -> Mapping[str, Asset]:
    """File name (`tolem.css`) → asset."""
    return {name: _load(name) for name in CONTENT_TYPES}


def template_names() -> dict[str, Callable[[str], str]]:
    """What templates call: `asset` for a file's address, `source` for the attributes that load it."""
    assets = load_assets()
    return {
        "asset": lambda name: assets[name].path,
        "source": lambda name: Markup(assets[name].source),  # noqa: S704 - of our own files
    }


def integrity_of(body: bytes) -> str:
    """A content's hash as an `integrity` attribute has it."""
    return "sha256-" + b64encode(hashlib.sha256(body).digest()).decode()


def static_files() -> dict[str, Asset]:
    """Address → asset: everything below `/static/`."""
    return {asset.path: asset for asset in load_assets().values()}


def read_lean(name: str) -> bytes:
    """A static file as it is served."""
    body = (STATIC / name).read_bytes()
    for_people = _FOR_PEOPLE.get(name.rpartition(".")[2])
    return for_people.sub("", body.decode()).encode() if for_people else body


def _load(name: str) -> Asset:
    body = read_lean(name)
    digest = hashlib.sha256(body).hexdigest()[:12]
    stem, suffix = name.rsplit(".", 1)
    return Asset(
        path=f"/static/{stem}.{digest}.{suffix}",
        content_type=CONTENT_TYPES[name],
        body=body,
        gzipped=gzip.compress(body, 9, mtime=0),
        integrity=integrity_of(body),
    )
