"""``hats.properties``: what a catalogue says about itself, as a value and as Java-style text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from stellarscale.catalog.layout import SKY_COLUMN
from stellarscale.errors import CatalogError

# Names that catalogues written before HATS 1.0 use, and the ones of the standard.
ALIASES = {
    "catalog_name": "obs_collection",
    "catalog_type": "dataproduct_type",
    "total_rows": "hats_nrows",
    "ra_column": "hats_col_ra",
    "dec_column": "hats_col_dec",
    "default_columns": "hats_cols_default",
    "healpix_column": "hats_col_healpix",
    "healpix_order": "hats_col_healpix_order",
    "primary_catalog": "hats_primary_table_url",
    "margin_threshold": "hats_margin_threshold",
    "indexing_column": "hats_index_column",
    "extra_columns": "hats_index_extra_column",
    "npix_suffix": "hats_npix_suffix",
    "skymap_order": "hats_skymap_order",
}

_ENTRY = re.compile(r"\s*((?:[^\\=:\s]|\\.)+)\s*[=:\s]\s*(.*)", re.DOTALL)
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


@dataclass(frozen=True)
class CatalogProperties:
    """Properties of a catalogue.

    Parameters
    ----------
    name : str
        ``obs_collection``.
    kind : str
        ``object`` (rows on the sky), ``margin`` or ``index``; those of others may say ``source`` or ``map``.
    ra, dec : str
        Columns of the position in degrees; empty when there are none.
    rows : int
        Total rows; ``finish_catalog`` fills it in.
    extra : dict of str
        Every other entry, by its name on disk.
    """

    name: str
    kind: str = "object"
    ra: str = "ra"
    dec: str = "dec"
    rows: int = 0
    extra: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def suffix(self) -> str:
        """Ending of the partition files; ``/`` when each partition is a directory."""
        return self.extra.get("hats_npix_suffix", ".parquet")

    @property
    def sky_column(self) -> str:
        """Column that the writer says holds the HEALPix index."""
        return self.extra.get("hats_col_healpix", SKY_COLUMN)

    def to_text(self, *, header: str = "HATS catalog") -> str:
        """Java-style properties, in a fixed order."""
        entries = {"obs_collection": self.name, "dataproduct_type": self.kind, "hats_nrows": str(self.rows)}
        if self.ra and self.dec:
            entries |= {"hats_col_ra": self.ra, "hats_col_dec": self.dec}
        entries |= {key: value for key, value in self.extra.items() if key not in entries}
        return to_lines(entries, header=header)

    @classmethod
    def from_text(cls, text: str, *, where: object = None) -> CatalogProperties:
        """Read Java-style properties; the names of older catalogues are understood.

        Raises
        ------
        CatalogError
            If the name or the type is missing, or the number of rows is none.
        """
        entries = parse_lines(text)
        entries = {ALIASES.get(key, key): value for key, value in entries.items()}
        missing = [key for key in ("obs_collection", "dataproduct_type") if not entries.get(key)]
        if missing:
            raise CatalogError(
                "the catalogue's properties are not complete",
                where=where,
                seen=f"keys {', '.join(entries) or 'none'}",
                needed=" and ".join(missing),
                cause="the file was cut short, or is the properties file of something else",
            )
        return cls(
            name=entries.pop("obs_collection"),
            kind=entries.pop("dataproduct_type"),
            ra=entries.pop("hats_col_ra", ""),
            dec=entries.pop("hats_col_dec", ""),
            rows=_row_count(entries.pop("hats_nrows", "0"), where),
            extra=entries,
        )


def to_lines(entries: dict[str, str], *, header: str) -> str:
    """Java-style properties text of a mapping."""
    lines = [f"#{header}"]
    lines += [f"{_escape(key, '=: ')}={_escape(str(value), '')}" for key, value in entries.items()]
    return "\n".join(lines) + "\n"


def parse_lines(text: str) -> dict[str, str]:
    """Mapping of Java-style properties text: comments, continued lines and escapes."""
    entries: dict[str, str] = {}
    pending = ""
    for line in text.splitlines():
        if not pending and line.lstrip().startswith(("#", "!")):
            continue
        line = pending + line.lstrip() if pending else line
        if _ends_open(line):
            pending = line[:-1]
            continue
        pending = ""
        found = _ENTRY.fullmatch(line)
        if found:
            entries[_unescape(found[1])] = _unescape(found[2]).strip()
        elif line.strip():
            entries[_unescape(line.strip())] = ""
    return entries


def _ends_open(line: str) -> bool:
    """An odd number of backslashes at the end continues the line."""
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _escape(text: str, special: str) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return "".join("\\" + letter if letter in special else letter for letter in text)


def _unescape(text: str) -> str:
    def replace(found: re.Match[str]) -> str:
        code = found[1]
        return chr(int(code[1:], 16)) if len(code) == 5 else _ESCAPES.get(code, code)

    return re.sub(r"\\(u[0-9a-fA-F]{4}|.)", replace, text, flags=re.DOTALL)


def _row_count(text: str, where: object) -> int:
    try:
        return int(text or 0)
    except ValueError as error:
        raise CatalogError("hats_nrows is no number", where=where, seen=text, needed="an integer") from error
