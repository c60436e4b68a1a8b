"""What a shop repeats of what it was sent is shown without the secret."""

import pytest

from tolem.domain.secrecy import MASK, hide

SECRET = 'кілт "7"&+'


@pytest.mark.parametrize(
    "written",
    (
        'кілт "7"&+',
        'кілт \\"7\\"&+',
        '\\u043a\\u0456\\u043b\\u0442 \\"7\\"&+',
        "кілт &quot;7&quot;&amp;+",
        "%D0%BA%D1%96%D0%BB%D1%82%20%227%22%26%2B",
        "%D0%BA%D1%96%D0%BB%D1%82+%227%22%26%2B",
    ),
)
def test_a_secret_in_the_ways_in_which_it_is_written(written: str) -> None:
    assert hide(f"got <{written}> and <{written}>".encode(), [SECRET]).decode() == f"got <{MASK}> and <{MASK}>"


def test_the_beginning_of_a_secret_where_the_answer_was_cut_off() -> None:
    assert hide(b'{"secret_hash":"JDKCNDDGG', ["JDKCNDDGGDTPSKJD"]).decode() == f'{{"secret_hash":"{MASK}'


def test_a_short_secret_is_hidden_where_it_stands_alone() -> None:
    assert hide(b'{"a":1,"secret_hash":"a","data":"banana"}', ["a"]).decode() == (
        f'{{"{MASK}":1,"secret_hash":"{MASK}","data":"banana"}}'
    )


def test_no_secret_hides_nothing() -> None:
    assert hide(b"all of it", ["", "other"]) == b"all of it"
