"""The survey files that grow over all chunks, each closed and followed by another when it is full."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stellarscale.simulate import external, galex, literature, sages, spectra
from stellarscale.simulate.files import FitsTable, TextTable
from stellarscale.simulate.truth import TRUTH_SCHEMA

FILE_ROWS = 1_000_000


class TextRows(NamedTuple):
    """Rows of a delimited text table: its columns, and their length."""

    columns: Mapping[str, pa.Array | pa.Scalar]
    rows: int


@dataclass(frozen=True)
class _Fits:
    stem: str
    suffix: str
    dtype: np.dtype
    units: Mapping[str, str]

    def open(self, path: Path) -> FitsTable:
        return FitsTable(path, self.dtype, units=self.units)


@dataclass(frozen=True)
class _Text:
    stem: str
    suffix: str
    header: tuple[str, ...]

    def open(self, path: Path) -> TextTable:
        return TextTable(path, header=",".join(self.header) + "\n")


TABLES: dict[str, _Fits | _Text] = {
    "sages_dr1": _Fits("sages/dr1-uv", ".fits", sages.DTYPE, sages.UNITS),
    "galex_guvcat": _Fits("galex/GUVcat_AIS", ".fits", galex.DTYPE, galex.UNITS),
    "lamost_lrs_stellar": _Fits("lamost/dr10_v2.0_LRS_stellar", ".fits.gz", spectra.LAMOST_DTYPE, spectra.LAMOST_UNITS),
    "apogee_dr17": _Fits("apogee/allStar-dr17-synspec_rev1", ".fits", spectra.APOGEE_DTYPE, {}),
    "rave_dr5": _Text("rave/RAVE_DR5", ".csv.gz", tuple(spectra.RAVE_COLUMNS)),
    "pastel": _Text("pastel/pastel", ".csv.gz", tuple(literature.PASTEL_COLUMNS)),
    "vmp_papers": _Text("vmp/nine_papers", ".csv.gz", tuple(literature.VMP_COLUMNS)),
    "huang2023": _Fits("huang2023/huang2023", ".fits", external.HUANG_DTYPE, external.HUANG_UNITS),
    "andrae2023": _Text("andrae2023/table_2_catwise", ".csv.gz", tuple(external.ANDRAE_COLUMNS)),
}


class SurveyFiles:
    """Files of one survey, never more than ``file_rows`` rows each unless one chunk alone has more.

    The first is named as the survey names its file; the next ones have a number: ``dr1-uv_001.fits``.
    """

    def __init__(self, folder: Path, table: _Fits | _Text, *, file_rows: int) -> None:
        self._folder, self._table, self._limit = folder, table, file_rows
        self.files: list[str] = []
        self.rows_per_file: list[int] = []
        self._open_next()

    def append(self, part: NDArray | TextRows) -> None:
        """Add the rows of one chunk."""
        rows = part.rows if isinstance(part, TextRows) else len(part)
        if self._file.rows and self._file.rows + rows > self._limit:
            self.close()
            self._open_next()
        if isinstance(self._file, TextTable):
            assert isinstance(part, TextRows)
            self._file.append(part.columns, part.rows)
        else:
            assert not isinstance(part, TextRows)
            self._file.append(part)

    def close(self) -> None:
        """Finish the file that is open."""
        self._file.close()
        self.rows_per_file.append(self._file.rows)

    def _open_next(self) -> None:
        number = f"_{len(self.files):03d}" if self.files else ""
        self.files.append(f"{self._table.stem}{number}{self._table.suffix}")
        self._file = self._table.open(self._folder / self.files[-1])


class Sinks:
    """All growing files of a mock sky: those of ``TABLES`` and the truth."""

    def __init__(self, folder: Path, *, file_rows: int = FILE_ROWS) -> None:
        self._stack = ExitStack()
        self.surveys = {name: SurveyFiles(folder, table, file_rows=file_rows) for name, table in TABLES.items()}
        for survey in self.surveys.values():
            self._stack.callback(survey.close)
        (folder / "truth").mkdir(exist_ok=True)
        self._truth = self._stack.enter_context(pq.ParquetWriter(folder / "truth" / "truth.parquet", TRUTH_SCHEMA))

    def append(self, parts: Mapping[str, NDArray | TextRows], truth: pa.Table) -> None:
        """Write one chunk to every growing file."""
        for name, part in parts.items():
            self.surveys[name].append(part)
        self._truth.write_table(truth, row_group_size=100_000)

    def __enter__(self) -> Sinks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
