"""Forms are read as every other reader reads them, whatever they hold."""

from urllib.parse import parse_qsl, quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tolem.domain.errors import Refused
from tolem.web.http import FIELDS_MAX, _parse_fields


@given(st.dictionaries(st.text(min_size=1), st.text(), max_size=8))
def test_what_a_browser_sends_is_read(fields: dict[str, str]) -> None:
    assert _parse_fields(urlencode(fields).encode()) == fields


@given(st.text("abz019%=+&\r\n \t_.~é", max_size=60))
def test_odd_forms_are_read_as_by_urllib(text: str) -> None:
    data = quote(text, safe="abz019%=+&\r\n \t_.~").encode()
    try:
        expected = dict(parse_qsl(data.decode(), keep_blank_values=True, errors="strict"))
    except UnicodeDecodeError:
        with pytest.raises(Refused):
            _parse_fields(data)
    else:
        assert _parse_fields(data) == expected


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        fields = _parse_fields(data)
    except Refused:
        return
    assert all(isinstance(value, str) for value in fields.values())


def test_too_many_fields_are_refused() -> None:
    with pytest.raises(Refused, match="more than"):
        _parse_fields(b"a=1&" * FIELDS_MAX + b"b=2")
