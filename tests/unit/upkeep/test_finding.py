"""Findings show no passwords."""

from __future__ import annotations

import pytest

from lab.upkeep.finding import Finding, Verdict, without_secrets

ADDRESS = "postgresql://lab:s3cret%40word@db/lab"


@pytest.mark.parametrize(
    "text",
    [
        f"cannot connect to {ADDRESS}",
        "cannot connect to postgresql://lab:s3cret@word@db/lab",
        'user "lab" with s3cret@word',
        'user "lab" with s3cret%40word',
        "another address: http://me:s3cret@elsewhere:5000/x",
        "token s3cret-token",
    ],
)
def test_passwords_are_left_out(text: str) -> None:
    shown = without_secrets(text, [ADDRESS, "no address", "http://[broken"], ["s3cret-token"])
    assert "s3cret" not in shown
    assert "***" in shown


def test_a_password_in_the_query_of_an_address_is_left_out() -> None:
    address = "postgresql://lab@db/lab?password=s3cret-word"
    assert without_secrets(f"use {address}", [address]) == "use postgresql://lab@db/lab?password=***"


def test_a_password_that_is_a_word_spoils_no_other_words() -> None:
    assert (
        without_secrets("lab gc, see postgresql://lab:lab@db", ["postgresql://lab:lab@db"])
        == "lab gc, see postgresql://lab:***@db"
    )


def test_a_password_that_is_a_part_of_other_words_spoils_none_of_them() -> None:
    address = "postgresql://lab:postgres@db/lab"
    for text, shown in {
        f"cannot connect to {address}": "cannot connect to postgresql://lab:***@db/lab",
        "use postgresql://user@host/lab": "use postgresql://user@host/lab",
        "psycopg: password=postgres, PG_postgres_": "psycopg: password=***, PG_***_",
        "lab%3Apostgres%40db": "lab%3A***%40db",
    }.items():
        assert without_secrets(text, [address]) == shown


def test_a_password_that_is_no_word_is_left_out_of_all_others() -> None:
    assert without_secrets("xs3cret@wordx", [ADDRESS]) == "x***x"


def test_what_is_found_is_one_printable_line() -> None:
    assert without_secrets("two\nlines \x1b[31m", []) == "two lines \\x1b[31m"
    assert Finding("disk", Verdict.OK, "fine").as_dict() == {
        "check": "disk",
        "verdict": "ok",
        "found": "fine",
        "mend": "",
    }
