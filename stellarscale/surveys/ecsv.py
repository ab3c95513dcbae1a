"""The commented header of ECSV files: names, dtypes, units, delimiter."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import yaml

from stellarscale.errors import InputError
from stellarscale.surveys.native import NativeColumn


@dataclass(frozen=True)
class EcsvHeader:
    """What the comment block of an ECSV file says."""

    columns: tuple[NativeColumn, ...]
    delimiter: str


@lru_cache(maxsize=8)  # the thousands of files of a release share one header, and YAML is slow
def parse_ecsv_header(text: str) -> EcsvHeader:
    """Parse the comment lines of an ECSV file, ``#`` included.

    Raises
    ------
    InputError
        If they are not YAML or declare no columns.

    Notes
    -----
    ECSV 1.0 (astropy APE 6). Tags such as ``!!omap`` are dropped: nothing here needs the ordered metadata.
    """
    lines = [re.sub(r"^# ?", "", line) for line in text.splitlines() if not line.startswith("# %ECSV")]
    plain = re.sub(r"([:-]) +!{1,2}[\w.:/]+[ \t]*$", r"\1", "\n".join(lines), flags=re.MULTILINE)
    try:
        content = yaml.safe_load(plain)
        columns = tuple(_column(entry) for entry in content["datatype"])
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise InputError("the ECSV header is not valid", seen=error, needed="a YAML list `datatype`") from error
    return EcsvHeader(columns, str(content.get("delimiter", " ")))


def _column(entry: dict[str, object]) -> NativeColumn:
    return NativeColumn(str(entry["name"]), str(entry["datatype"]), str(entry.get("unit") or ""))
