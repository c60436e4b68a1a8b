"""`tolem cards` and the terminal's settings of 3-D Secure, as people type them."""

import json
from pathlib import Path

from tests.test_cli import run
from tolem.domain.card import Pan
from tolem.sandbox.cards import AUTHENTICATIONS, LINES, PUBLISHED, find_card, list_cards

TERMINAL = "00000000-0000-4000-8000-000000000001"


def test_cards_for_people(tmp_path: Path) -> None:
    text = run("cards", cwd=tmp_path)
    for card in PUBLISHED:
        assert card.number in text
    for words in (*AUTHENTICATIONS.values(), *LINES.values()):
        assert words in text
    assert "4400430001000006  approved; challenge: the code is 123456" in text
    assert "declined with 484; authenticated without a challenge (Not sufficient funds)" in text
    assert list(tmp_path.iterdir()) == []  # it needs no database


def test_cards_for_programs(tmp_path: Path) -> None:
    rows = json.loads(run("cards", "--all", "--json", cwd=tmp_path))
    assert [row["number"] for row in rows] == [card.number for card in list_cards()]
    for row in rows:
        card = find_card(Pan(row["number"]))
        assert card is not None
        assert (card.description, card.reason_code) == (row["does"], row["reasonCode"])
    assert len(json.loads(run("cards", "--json", cwd=tmp_path))) < len(rows)


def test_settings_of_a_terminal(tmp_path: Path) -> None:
    where = ("--database", "sqlite:///tolem.db", "--json")
    run("migrate", "--database", "sqlite:///tolem.db", cwd=tmp_path)
    run("merchant", "add", "shop", "--name", "Shop", *where, cwd=tmp_path)
    names = ("accept_attempted", "accept_not_enrolled", "accept_unavailable")
    added = json.loads(run("terminal", "add", "shop", "--name", "T", "--id", TERMINAL, *where, cwd=tmp_path))
    assert [added[name] for name in names] == [True, True, False]
    turned = ("--decline-attempted", "--decline-not-enrolled", "--accept-unavailable")
    changed = json.loads(run("terminal", "set", TERMINAL, *turned, *where, cwd=tmp_path))
    assert [changed[name] for name in names] == [False, False, True]
