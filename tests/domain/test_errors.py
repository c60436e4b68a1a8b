import pytest

from tolem.domain.errors import Refusal, Refused, abridge


@pytest.mark.parametrize(
    ("message", "record"),
    (
        ("amount must be digits, not '1e3'", "amount must be digits, not '1e3'"),
        ("invoiceID must be 6 to 15 digits, not '4405639704015096'", "invoiceID must be 6 to 15 digits, not '440563…'"),
        ("not '4405 6397 0401 5096'", "not '4405 6…'"),
        ("not '378282246310005' but '000000001'", "not '378282…' but '000000001'"),
        ('scope is "yF587AV9Ms94qN2QShFzVR3vFnWkhjbAK3sG\'"', 'scope is "yF587A…"'),
        ("no value is quoted", "no value is quoted"),
    ),
)
def test_what_is_recorded_of_a_refusal_holds_no_card_and_no_secret(message: str, record: str) -> None:
    refused = Refused(Refusal.INVALID_REQUEST, message)
    assert (refused.message, refused.record) == (message, record)


def test_a_clients_name_is_recorded_and_a_secret_in_its_place_only_begun() -> None:
    assert abridge("my-shop-online-1") == "my-shop-online-1"
    assert abridge("yF587AV9Ms94qN2QShFzVR3vFnWkhjbAK3sG") == "yF587A…"
