"""YAML: values, marks and refusals."""

from __future__ import annotations

import math
import os
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lab.config.yaml import dotted, parse_yaml, read_yaml
from lab.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E-3", 0.001),
        (".001", 0.001),
        ("+3", 3),
        ("-0.5", -0.5),
        ("5.", 5.0),
        ("150_000", 150_000),
        ("1_000.5", 1000.5),
        ("0x1F", 31),
        ("0o17", 15),
        ("007", 7),
        ("1__0", "1__0"),
        ("_1", "_1"),
        ("yes", "yes"),
        ("off", "off"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("none", "none"),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("٣", "٣"),
        ("[1, [2]]", [1, [2]]),
        ("{a: {b: null}}", {"a": {"b": None}}),
    ],
)
def test_values_are_those_of_yaml_1_2(text, value):
    found = parse_yaml(text).value
    assert (found, type(found)) == (value, type(value))


def test_nan():
    assert math.isnan(parse_yaml(".nan").value)


def test_every_key_and_item_has_its_line():
    document = parse_yaml("base:\n  lr: 1\n\ngrid:\n  lr:\n    - 1\n    - 2\n", "x.yaml")
    assert document.line(("base",)) == 1
    assert document.line(("base", "lr")) == 2
    assert document.line(("grid", "lr", 1)) == 7
    assert document.line(("grid", "lr", 9, "deeper")) == 5
    assert document.line(("nothing",)) == 1
    assert str(document.fault(("grid", "lr", 1), "no")) == "x.yaml:7: grid.lr[1]: no"


def test_dotted():
    assert dotted(("grid", "lr", 2, "x")) == "grid.lr[2].x"
    assert dotted(()) == ""


def test_merge_keys_lie_under_the_mappings_own():
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc:\n  y: 3\n  <<: [*a, *b]\n"
    document = parse_yaml(text)
    assert document.value["c"] == {"x": 1, "y": 3, "z": 2}
    assert document.line(("c", "y")) == 4


LAUGHS = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(10)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("a: 1\nb: 2\na: 3\n", r":3: a: the key 'a' is given twice; the first is on line 1"),
        ("x:\n  - {b: 1, b: 2}\n", r":2: x\[0\]\.b: the key 'b' is given twice"),
        ("a: !!python/object/apply:os.system [ls]\n", r":1: a: the tag !!python/object/apply:os.system"),
        ("a: !!int 3\n", ":1: a: the tag !!int is not supported"),
        ("a: !mine 3\n", ":1: a: the tag !mine is not supported"),
        ("a: 1\n---\nb: 2\n", ":2: a second document"),
        ("a: 1\n1: 2\n", ":2: a key must be text, but got 1; quote it"),
        ("[1]: 2\n", ":1: a key must be text, not a list"),
        ("? \n: 2\n", ":1: a key must be text, but got nothing"),
        ("a: &a [*a]\n", r":1: a\[0\]: an alias that contains itself"),
        ("a: &a {<<: *a}\n", "an alias that contains itself"),
        ("a: {<<: 3}\n", "'<<' takes a mapping"),
        ("a: *b\n", ":1: found undefined alias"),
        (LAUGHS, "holds more than 100,000 values after its aliases are expanded"),
        ("[" * 100_000, "nested deeper than 40 levels"),
        ("- " * 5_000, "nested deeper than 40 levels"),
        ("a:\n\t- 1\n", r":2: .*'\\t'.*indent with spaces"),
        ("a: [1, 2\n", r":\d: .*expected ',' or ']'"),
        ("a: 'x\n", "found unexpected end of stream"),
        ("a: 1\nb: \x07\n", r":2: the character U\+0007 is not allowed"),
        ('a: "\\0"', "text with a NUL"),
        ('a: "\\ud800"', "half a surrogate"),
        ('a: "\\UFFFFFFFF"', "cannot be read as YAML"),
        ("a: " + "9" * 5000, ":1: a: a whole number of 5000 digits is too large"),
        ("%YAML 9.1\n---\na: 1", "found incompatible YAML document"),
        ("a: " + "x" * 1_000_001, "is longer than 1,000,000 characters"),
    ],
)
def test_refusals(text, message):
    with pytest.raises(ConfigError, match=f"(?s)^f.yaml.*{message}"):
        parse_yaml(text, "f.yaml")


def test_all_faults_of_a_document_come_at_once():
    with pytest.raises(ConfigError, match="given twice") as caught:
        parse_yaml("a: 1\na: 2\nb: !x 1\n3: 4\n")
    assert [fault.line for fault in caught.value.faults] == [2, 3, 4]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a: 1\nb: \xff\n", ":2: is not UTF-8 text"),
        (b"\x00\x01\x02", "is not allowed in YAML"),
        (b"", "is empty"),
        (b"x" * 1_000_001, "is larger than 1,000,000 bytes"),
    ],
)
def test_files_that_are_no_configuration(tmp_path, data, message):
    path = tmp_path / "f.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=message):
        read_yaml(path)


def test_bom_is_not_text(tmp_path):
    (tmp_path / "f.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_yaml(tmp_path / "f.yaml").value == {"a": 1}


def test_missing_file_names_the_nearest(tmp_path):
    (tmp_path / "quickstart.yaml").touch()
    with pytest.raises(ConfigError, match=r"no such file\. Did you mean 'quickstart\.yaml'\?"):
        read_yaml(tmp_path / "quickstrat.yaml")
    with pytest.raises(ConfigError, match="no such file"):
        read_yaml(tmp_path / "none" / "x.yaml")


def test_folder_and_odd_paths(tmp_path):
    with pytest.raises(ConfigError, match="is a folder"):
        read_yaml(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml("a\0b")
    with pytest.raises(ConfigError, match="cannot be read: File name too long"):
        read_yaml(tmp_path / ("x" * 300))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path):
    (tmp_path / "f.yaml").touch(mode=0o000)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        read_yaml(tmp_path / "f.yaml")


SNIPPETS = st.sampled_from(
    [
        "a",
        ": ",
        "\n",
        "  ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "&a ",
        "*a",
        "<<",
        "!!x ",
        "'",
        '"',
        "|",
        ">",
        "#",
        "?",
        "---\n",
        "%",
        "\t",
        "\\",
        "1",
        "e",
        ".",
        "\u2028",
        "\x85",
        "\ufeff",
        "~",
    ]
)


@given(st.one_of(st.text(max_size=80), st.lists(SNIPPETS, max_size=40).map("".join)))
@example("&a a: *a")
@example("? - a\n: *a")
def test_any_text_is_a_document_or_a_config_error(text):
    try:
        document = parse_yaml(text, "f")
    except ConfigError:
        return
    assert document.line(("nothing", 0)) is not None


@given(st.binary(max_size=60))
def test_any_bytes_are_a_document_or_a_config_error(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(data)
    with suppress(ConfigError):
        read_yaml(path)
