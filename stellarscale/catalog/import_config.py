"""The numbers of an import."""

from __future__ import annotations

from dataclasses import dataclass, field

from stellarscale.catalog.writer import WriteOptions
from stellarscale.errors import ConfigError
from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.schema import SurveySchema

_DEEPEST_HISTOGRAM = 12  # one base pixel of it fills 128 MiB of counts
_SPECTRUM_ROWS = 20_000
_TABLE_ROWS = 1_000_000


def default_max_rows(schema: SurveySchema) -> int:
    """Row cap of a partition where none is chosen: a spectrum takes a hundred times the bytes of a table's row."""
    return _SPECTRUM_ROWS if schema.spectrum else _TABLE_ROWS


@dataclass(frozen=True)
class ImportConfig:
    """Numbers of an import; memory follows from them and the number of tasks at once, not from the input.

    Parameters
    ----------
    max_rows : int
        Row cap of a partition; a pixel of the finest order may exceed it.
    batch_rows : int
        Rows read, sorted and spilled at a time.
    min_order, finest_order : int
        Lowest and highest HEALPix order of a partition.
    hashes_at_once : int
        Id hashes (8 bytes each) that one step of the duplicate check holds in memory.
    threads : int
        Threads that work on one file when there are fewer files than this; the result does not depend on it.
    columns : tuple of str
        Canonical columns to import beside those that always are (see
        :func:`~stellarscale.surveys.plan.chosen_columns`); all that the files have when empty.
    write : WriteOptions
        Codec and row groups of the partition files.
    grid : WaveGrid, optional
        Wavelengths that spectra are stored on; those of the survey's schema when absent.
    files_at_once : int
        Files of spectra that one map task reads.

    Raises
    ------
    ConfigError
        If a number is out of its range.
    """

    max_rows: int = _TABLE_ROWS
    batch_rows: int = 500_000
    min_order: int = 0
    finest_order: int = 10
    hashes_at_once: int = 2_000_000
    threads: int = 1
    columns: tuple[str, ...] = ()
    write: WriteOptions = field(default_factory=WriteOptions)
    grid: WaveGrid | None = None
    files_at_once: int = 500

    def __post_init__(self) -> None:
        for name in ("max_rows", "batch_rows", "hashes_at_once", "threads", "files_at_once"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is too small", seen=getattr(self, name), needed="1 or more")
        if not 0 <= self.min_order <= self.finest_order <= _DEEPEST_HISTOGRAM:
            raise ConfigError(
                "the HEALPix orders of the import do not fit together",
                seen=f"min_order {self.min_order}, finest_order {self.finest_order}",
                needed=f"0 <= min_order <= finest_order <= {_DEEPEST_HISTOGRAM}",
            )
