"""Configuration: what wins over what, and that a wrong value is told in one line."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from tolem.config import Config, InvalidConfig, load_config

HOOK = "whsec_" + "A" * 44


def test_defaults() -> None:
    config = load_config({}, {})
    assert config == Config()
    assert (config.host, config.port, config.database) == ("127.0.0.1", 8700, "sqlite:///tolem.db")
    assert config.ledger_url == "sqlite:///tolem-simulator.db"


def test_flag_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text('port = 1001\nhost = "127.0.0.2"\nlog_format = "text"\n')
    environment = {"TOLEM_CONFIG": str(file), "TOLEM_PORT": "1002", "TOLEM_HOST": "127.0.0.3"}
    config = load_config({"port": 1003, "host": None}, environment)
    assert (config.port, config.host, config.log_format) == (1003, "127.0.0.3", "text")


@pytest.mark.parametrize(
    ("values", "words"),
    (
        ({"port": "http"}, "port"),
        ({"port": 70_000}, "port is 70000"),
        ({"mode": "live"}, "sandbox or production"),
        ({"log_format": "xml"}, "json or text"),
        ({"database": "mysql://root:secret@host/x"}, "must begin with sqlite"),
        ({"database": "sqlite:///"}, "must begin with sqlite"),
        ({"workers": 0}, "1 or more"),
        ({"workers": 2}, "need PostgreSQL"),
        ({"public_url": "pay.example.kz"}, "origin"),
        ({"public_url": "https://pay.example.kz/path"}, "origin"),
        ({"mode": "production"}, "needs public_url"),
        ({"mode": "production", "public_url": "http://pay.example.kz"}, "https"),
        ({"trusted_proxies": "10.0.0.1, proxy"}, "'proxy'"),
        ({"host": "0.0.0.0"}, "sandbox_password"),  # noqa: S104 - what must be refused
        ({"host": "0.0.0.0", "sandbox_password": "short"}, "12 characters"),  # noqa: S104 - the same
        ({"acquirer_timeout_seconds": -1}, "above 0"),
        ({"attempt_limits": "yes"}, "use on or off"),
        ({"card_declines_max": -1}, "card_declines_max is -1, use 0 (no limit)"),
        ({"declines_minutes": 0}, "use 1 to 10080 (a week)"),
        ({"attempt_wait_seconds": 0}, "more than 0"),
        ({"attempt_wait_seconds": 700}, "the first wait not above the longest"),
        ({"server_key": "cGFzc3dvcmQ="}, "server key 1 is not 32 bytes"),
        ({"webhook_secret": "cGFzc3dvcmQ="}, "24 to 64 bytes"),
        ({"mode": "production", "public_url": "https://a.kz", "webhook_secret": HOOK}, "sandbox's published terminal"),
    ),
)
def test_a_wrong_value_is_told_in_one_line(values: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        load_config(values, {})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "root:secret" not in str(caught.value)
    assert "cGFzc3dvcmQ" not in str(caught.value)


def test_attempts_are_limited_in_production_and_where_it_is_asked_for() -> None:
    assert Config().attempt_terms is None
    assert Config(mode="production", attempt_limits="off").attempt_terms is None
    terms = Config(mode="production").attempt_terms
    assert terms is not None
    assert terms == Config(attempt_limits="on").attempt_terms
    assert (terms.card_max, terms.address_max, terms.terminal_max) == (5, 30, 300)
    assert (terms.window, terms.wait_first, terms.wait_max) == (
        timedelta(hours=1),
        timedelta(seconds=15),
        timedelta(minutes=10),
    )


def test_a_misspelt_key_of_the_file_is_told(tmp_path: Path) -> None:
    file = tmp_path / "tolem.toml"
    file.write_text("prot = 1\n")
    with pytest.raises(InvalidConfig, match="'prot' is not known"):
        load_config({}, {"TOLEM_CONFIG": str(file)})
    file.write_text("port = = 1\n")
    with pytest.raises(InvalidConfig, match=r"tolem\.toml"):
        load_config({}, {"TOLEM_CONFIG": str(file)})
    with pytest.raises(InvalidConfig, match="does not exist"):
        load_config({}, {"TOLEM_CONFIG": str(tmp_path / "none.toml")})


def test_a_sandbox_with_a_password_may_leave_the_machine() -> None:
    config = load_config({"host": "0.0.0.0", "sandbox_password": "a long password"}, {})  # noqa: S104 - the subject
    assert config.host == "0.0.0.0"  # noqa: S104 - the subject


def test_every_setting_is_in_the_operators_table() -> None:
    guide = (Path(__file__).parent.parent / "docs" / "operating.md").read_text()
    table = guide.partition("| name | default | meaning |")[2].partition("```")[0]
    told = set(re.findall(r"`([a-z_]+)`", "\n".join(line.split("|")[1] for line in table.splitlines() if "|" in line)))
    assert told == set(Config.__struct_fields__)
