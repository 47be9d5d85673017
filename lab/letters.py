"""Output to streams that cannot encode every letter: a C locale, an old Windows console, `PYTHONIOENCODING=ascii`."""

from __future__ import annotations

import codecs
import io
import sys

__all__ = ["in_ascii", "write_any_letter"]

_ERRORS = "lab_plain"
_ENCODING = "lab_ascii"
_PLAIN = {
    **{
        "±": "+-",
        "…": "...",
        "–": "-",
        "—": "-",
        "−": "-",
        "→": "->",
        "←": "<-",
        "×": "x",
        "·": ".",
        "•": "*",
    },
    **{"≤": "<=", "≥": ">=", "≈": "~", "“": '"', "”": '"', "‘": "'", "’": "'", "\xa0": " ", "\u202f": " "},
    **dict.fromkeys(map(chr, range(0x2500, 0x2580)), "+"),  # box-drawing characters; their lines follow
    **dict.fromkeys("─━┄┅┈┉╌╍═╴╶╸╺╼╾", "-"),
    **dict.fromkeys("│┃┆┇┊┋╎╏║╵╷╹╻╽╿", "|"),
    **dict.fromkeys(map(chr, range(0x2580, 0x25A0)), "#"),
    **dict.fromkeys(map(chr, range(0x2800, 0x2900)), "."),  # spinners
}


def in_ascii(text: str) -> str:
    """Return `text` in ASCII: symbols become similar ones and other letters are escaped, so that nothing is lost."""
    return "".join(letter if letter.isascii() else _plain(letter) for letter in text)


def write_any_letter() -> None:
    """Let stdout and stderr write letters that they cannot encode in plain ones, instead of raising."""
    codecs.register_error(_ERRORS, _replaced)
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):  # replaced by another program, which takes care of it
            continue
        if codecs.lookup(stream.encoding).name == "ascii":
            # under another name: click considers ASCII a mistake, and writes UTF-8
            codecs.register(_found)
            stream.reconfigure(encoding=_ENCODING, errors=_ERRORS)
        else:
            stream.reconfigure(errors=_ERRORS)


def _plain(letter: str) -> str:
    return _PLAIN.get(letter) or letter.encode("ascii", "backslashreplace").decode("ascii")


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return in_ascii(error.object[error.start : error.end]), error.end


class _Encoder(codecs.IncrementalEncoder):
    def encode(self, text: str, final: bool = False) -> bytes:
        return text.encode("ascii", self.errors)


def _found(name: str) -> codecs.CodecInfo | None:
    ascii_ = codecs.lookup("ascii")
    if name != _ENCODING:
        return None
    return codecs.CodecInfo(
        ascii_.encode,
        ascii_.decode,
        incrementalencoder=_Encoder,
        incrementaldecoder=ascii_.incrementaldecoder,
        name=_ENCODING,
    )
