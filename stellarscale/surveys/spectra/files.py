"""One file of a spectrum, read by whichever accepted layout fits its content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stellarscale.errors import InputError, SchemaError, StellarscaleError
from stellarscale.schema import SurveySchema
from stellarscale.schema_spectra import Layout, SpectrumLayout
from stellarscale.surveys.native import open_bytes
from stellarscale.surveys.spectra.hdus import Hdu, parse_hdus
from stellarscale.surveys.spectra.lamost import read_coadd, read_rows
from stellarscale.surveys.spectra.miles import read_image
from stellarscale.surveys.spectra.plain import read_fits_table, read_other_table
from stellarscale.surveys.spectra.sdss import read_sdss, read_template
from stellarscale.surveys.spectra.spectrum import Spectrum

READERS: dict[Layout, Callable[[list[Hdu], SpectrumLayout], Spectrum | None]] = {
    "lamost_rows": read_rows,
    "lamost_coadd": read_coadd,
    "sdss": read_sdss,
    "pyhammer": read_template,
    "image": read_image,
    "table": read_fits_table,
}


def read_spectrum(path: Path, schema: SurveySchema) -> Spectrum:
    """Read one file by the first of the schema's layouts that fits its content; gzip and bz2 too.

    Raises
    ------
    InputError
        If the file is missing, empty, truncated or damaged, or fits none of the layouts.
    """
    layout = layout_of(schema)
    with open_bytes(path) as stream:
        raw = stream.read()
    try:
        hdus = parse_hdus(raw, path)
        spectrum = _of_fits(hdus, layout) if hdus else _of_other(path, raw, schema)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, StellarscaleError):
            raise
        raise InputError("the file contradicts itself", where=path, seen=repr(error), cause="a damaged file") from error
    if spectrum is not None:
        return spectrum
    raise InputError(
        "the file is no spectrum in a layout that its survey accepts",
        where=path,
        seen="; ".join(_content(hdu) for hdu in hdus) or repr(raw[:30]),
        needed=f"one of the layouts {', '.join(layout.layouts)}",
        cause=f"a file of another survey than {schema.title}",
    )


def layout_of(schema: SurveySchema) -> SpectrumLayout:
    """What a schema says of its spectra; SchemaError if it is one of tables."""
    if schema.spectrum is None:
        raise SchemaError(
            f"survey {schema.name} has tables, not files of spectra",
            needed="a schema with `spectrum`",
            cause="another survey than meant",
        )
    return schema.spectrum


def _of_fits(hdus: list[Hdu], layout: SpectrumLayout) -> Spectrum | None:
    found = (READERS[name](hdus, layout) for name in layout.layouts)
    return next((spectrum for spectrum in found if spectrum is not None), None)


def _of_other(path: Path, raw: bytes, schema: SurveySchema) -> Spectrum | None:
    layout = layout_of(schema)
    return read_other_table(path, raw, schema, layout) if "table" in layout.layouts else None


def _content(hdu: Hdu) -> str:
    if hdu.is_table:
        return f"table {hdu.name} of {hdu.rows} rows with {', '.join(list(hdu.fields)[:8])}".replace("  ", " ")
    return f"image of {' x '.join(map(str, hdu.shape))}" if hdu.shape else "no data"
