"""Paths: every partition's path names its pixel, and nothing else is taken for one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stellarscale.catalog import layout
from stellarscale.catalog.pixels import Pixel


@st.composite
def pixels(draw):
    order = draw(st.integers(0, 29))
    return Pixel(order, draw(st.integers(0, (12 << (2 * order)) - 1)))


@given(pixels(), st.sampled_from([".parquet", ".snappy.parquet", "/"]))
def test_a_path_tells_its_pixel(pixel, suffix):
    assert layout.pixel_of_path(layout.relative_pixel_path(pixel, suffix)) == pixel
    assert layout.pixel_of_path(str(layout.pixel_path(Path("/data/cat"), pixel, suffix))) == pixel


@pytest.mark.parametrize(
    ("pixel", "path"),
    [
        (Pixel(0, 11), "Norder=0/Dir=0/Npix=11.parquet"),
        (Pixel(6, 9_999), "Norder=6/Dir=0/Npix=9999.parquet"),
        (Pixel(6, 10_000), "Norder=6/Dir=10000/Npix=10000.parquet"),
        (Pixel(7, 123_456), "Norder=7/Dir=120000/Npix=123456.parquet"),
    ],
)
def test_ten_thousand_pixels_share_a_directory(pixel, path):
    assert layout.relative_pixel_path(pixel) == path


@pytest.mark.parametrize("path", ["_metadata", "Norder=3/Npix=4.parquet", "dataset/index/part.0.parquet", ""])
def test_other_paths_are_no_partitions(path):
    assert layout.pixel_of_path(path) is None


def test_backslashes_are_understood():
    assert layout.pixel_of_path("Norder=3\\Dir=0\\Npix=4.parquet") == Pixel(3, 4)


def test_pixel_files_are_found_and_temporary_ones_are_not(tmp_path):
    there = layout.pixel_path(tmp_path, Pixel(1, 3))
    there.parent.mkdir(parents=True)
    there.touch()
    (there.parent / ".Npix=4.parquet.1-2.stellarscale-part").touch()
    assert layout.pixel_files(tmp_path) == [there]


def test_everything_of_the_catalogue_is_inside_of_it():
    root = Path("/data/cat")
    for place in (
        layout.dataset_directory,
        layout.properties_path,
        layout.old_properties_path,
        layout.partition_info_path,
        layout.skymap_path,
        layout.metadata_path,
        layout.common_metadata_path,
        layout.thumbnail_path,
        layout.working_directory,
        layout.collection_path,
    ):
        assert place(root).is_relative_to(root)
    assert layout.working_directory(root).name.startswith(".")
