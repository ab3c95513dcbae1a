"""FITS files of single spectra, held in memory: a header's cards are only parsed when their value is asked for.

A survey of spectra is a million files of a hundred cards each, of which some twenty are wanted; general readers
parse them all, and take longer over it than over the spectrum. Files of a survey have the same keywords in the same
order, so that where each stands is looked up once for all of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stellarscale.errors import InputError
from stellarscale.surveys.fits_table import FitsColumn, data_bytes, table_of

_BLOCK, _CARD, _KEYWORD = 2880, 80, 9  # bytes; a keyword with the sign that a value follows
_IMAGES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_STRING = re.compile(r"'((?:[^']|'')*)'")


class Cards(Mapping[str, Any]):
    """Values of a header by keyword, upper case; of a repeated keyword the first."""

    def __init__(self, text: str, where: object) -> None:
        self._text = text
        self._places = _places("".join([text[i : i + _KEYWORD] for i in range(0, len(text), _CARD)]))
        self._where = where

    def __getitem__(self, key: str) -> Any:
        return self._value(key, self._places[key])

    def get(self, key: str, default: Any = None) -> Any:
        """As of any mapping, without the exception that a missing keyword would cost."""
        place = self._places.get(key)
        return default if place is None else self._value(key, place)

    def floats(self, keys: Iterable[str]) -> list[float]:
        """The values of some keywords as ``float(cards[key])`` gives them, in half the time."""
        text, places = self._text, self._places
        try:
            return [float(text[(at := places[key]) + 10 : at + _CARD].partition("/")[0]) for key in keys]
        except ValueError:  # exponents written with D, numbers in quotes
            return [float(self[key]) for key in keys]

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _value(self, key: str, place: int) -> Any:
        text = self._text[place + 10 : place + _CARD].strip()
        if text.startswith("'"):
            found = _STRING.match(text)
            return found[1].replace("''", "'").rstrip() if found else text[1:]
        word = text.partition("/")[0].rstrip()
        if word in ("T", "F"):
            return word == "T"
        try:
            return int(word) if word.lstrip("+-").isdecimal() else float(word.replace("D", "E")) if word else None
        except ValueError as error:
            seen = self._text[place : place + _CARD].rstrip()
            raise InputError("a header card is not FITS", where=f"{self._where}, {key}", seen=seen) from error


@lru_cache(maxsize=256)
def _places(keywords: str) -> dict[str, int]:
    """First character of the card of each keyword, from the first nine characters of all cards."""
    cards = [keywords[i : i + _KEYWORD] for i in range(0, len(keywords), _KEYWORD)]
    return {card[:8].rstrip(): n * _CARD for n, card in reversed(list(enumerate(cards))) if card[8:] == "="}


@dataclass(frozen=True)
class Hdu:
    """One header and data unit; ``start`` is the first byte of the data in ``raw``, the whole file."""

    path: Path
    cards: Cards
    raw: bytes
    start: int

    @property
    def name(self) -> str:
        return str(self.cards.get("EXTNAME") or "").strip().upper()

    @property
    def is_table(self) -> bool:
        return str(self.cards.get("XTENSION", "")).strip() == "BINTABLE"

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of the data as numpy has it: the fastest axis last."""
        return tuple(int(self.cards[f"NAXIS{i}"]) for i in range(int(self.cards.get("NAXIS", 0)), 0, -1))

    def image(self) -> NDArray[np.float64]:
        """The image, scaled; a blank pixel of an integer image is NaN."""
        count = math.prod(self.shape)
        stored = np.frombuffer(self.raw, _IMAGES[int(self.cards["BITPIX"])], count, self.start).reshape(self.shape)
        values = stored.astype(np.float64)
        if "BLANK" in self.cards and stored.dtype.kind != "f":
            values[stored == self.cards["BLANK"]] = np.nan
        scale, zero = self.cards.get("BSCALE", 1.0), self.cards.get("BZERO", 0.0)
        return values if (scale, zero) == (1, 0) else values * scale + zero

    @cached_property
    def fields(self) -> dict[str, FitsColumn]:
        """Columns of a binary table by their names in lower case."""
        return {field.name.lower(): field for field in table_of(self.path, self.cards, self.start).fields}

    @property
    def rows(self) -> int:
        return int(self.cards["NAXIS2"])

    def column(self, name: str) -> NDArray[Any]:
        """A column of numbers as one vector, whether it stands in one row or is spread over many."""
        field = self.fields[name]
        if self.rows > 1 and field.repeat > 1:
            raise InputError(
                "the table holds several spectra",
                where=f"{self.path}, column {field.name}",
                seen=f"{self.rows} rows of {field.repeat} values",
                needed="one spectrum a file: one row of vectors, or a row for each pixel",
            )
        if field.code not in "BIJKED":
            raise InputError("the column does not hold numbers", where=f"{self.path}, column {field.name}")
        shape = (field.repeat,) if field.repeat != 1 else ()
        values = self._view(field, (field.storage, shape))[field.name].ravel().astype(field.storage[-2:])
        return values if (field.scale, field.zero) == (1, 0) else values * field.scale + field.zero

    def first_row(self) -> dict[str, Any]:
        """Single numbers and strings of a table's first row, by the columns' names in upper case."""
        row: dict[str, Any] = {}
        for field in self.fields.values() if self.rows else ():
            if field.is_scalar and field.code != "L":
                value = self._view(field, field.storage)[field.name][0].item()
                row[field.name.upper()] = value.decode("latin-1").strip() if isinstance(value, bytes) else value
        return row

    def _view(self, field: FitsColumn, kind: Any) -> NDArray[Any]:
        width = int(self.cards["NAXIS1"])
        layout = np.dtype({"names": [field.name], "formats": [kind], "offsets": [field.offset], "itemsize": width})
        return np.frombuffer(self.raw, layout, self.rows, self.start)


def parse_hdus(raw: bytes, path: Path) -> list[Hdu]:
    """The units of a FITS file from its bytes; none if it is no FITS file.

    Raises
    ------
    InputError
        If the file ends inside a header or before its data do.
    KeyError, TypeError, ValueError
        If a header lacks what FITS requires.
    """
    hdus: list[Hdu] = []
    position = 0
    while raw.startswith((b"SIMPLE  =", b"XTENSION="), position):
        end = _end_of_header(raw, position, path)
        cards = Cards(raw[position:end].decode("latin-1"), path)
        size = data_bytes(cards)
        if size < 0 or end + size > len(raw):
            raise _truncated(path, seen=len(raw), needed=end + size)
        hdus.append(Hdu(path, cards, raw, end))
        position = end + -(-size // _BLOCK) * _BLOCK
    return hdus


def _end_of_header(raw: bytes, position: int, path: Path) -> int:
    for start in range(position, len(raw) - _BLOCK + 1, _BLOCK):
        initials = raw[start : start + _BLOCK : _CARD]
        card = initials.find(b"E")
        while card >= 0 and not raw.startswith(b"END     ", start + card * _CARD):
            card = initials.find(b"E", card + 1)
        if card >= 0:
            return start + _BLOCK
    raise InputError(
        "the FITS file ends inside a header",
        where=path,
        seen=f"{len(raw)} bytes",
        cause="an interrupted download or copy",
    )


def _truncated(path: Path, *, seen: int, needed: int) -> InputError:
    return InputError(
        "the FITS file is truncated",
        where=path,
        seen=f"{seen} bytes",
        needed=f"{needed} bytes",
        cause="an interrupted download or copy",
    )
