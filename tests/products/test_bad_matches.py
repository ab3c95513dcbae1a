"""Catalogues that cannot be matched, or were written by another program, through the real command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from reference.command_line import FIRST_ID, HEADER, PAIRS, ROWS, call, column, refused, summary, unfinished

from stellarscale.catalog.reader import open_stored
from stellarscale.catalog.verify import verify


def test_a_match_without_pairs_leaves_empty_partitions_and_a_valid_catalogue(catalogs, tmp_path):
    far = tmp_path / "far.csv"
    far.write_text(HEADER + "".join(f"{i},{180 + i},-40\n" for i in range(9)))
    summary("import", far, "--survey", "gaia_dr3", "--out", tmp_path / "far")
    done = summary("crossmatch", catalogs[0], tmp_path / "far", "--radius-arcsec", 1, "--prefix", "far_", "--out",
                   tmp_path / "m")  # fmt: skip
    assert (done["rows_in"], done["matched"], done["written"]) == (ROWS, 0, 0)
    assert "far_source_id" in open_stored(tmp_path / "m").schema.names
    assert not verify(tmp_path / "m").problems
    assert list((tmp_path / "m").rglob("Npix*")) == []


@pytest.mark.parametrize("side", [0, 1])
def test_a_directory_that_is_no_catalogue(catalogs, survey_files, out, tmp_path, side):
    pair = list(catalogs)
    for wrong, words in (
        (survey_files[0].parent, "gaia.csv"),
        (survey_files[1], "no such catalogue"),
        (tmp_path / "x", "no such"),
    ):
        pair[side] = wrong
        text = refused("crossmatch", *pair, "--radius-arcsec", 1, "--out", out)
        assert words in text
        assert str(wrong) in text
    pair[side] = survey_files[0].parent
    assert "hats.properties" in refused("crossmatch", *pair, "--radius-arcsec", 1, "--out", out)
    assert not out.exists()


def test_a_catalogue_without_positions_is_not_matched(catalogs, out, tmp_path):
    path = tmp_path / "segue.csv"
    path.write_text("ug,gr,ri,iz,FeH\n1.0,0.5,0.2,0.1,-1.5\n1.1,0.6,0.2,0.1,-1.0\n")
    summary("import", path, "--survey", "segue_colours", "--out", tmp_path / "segue")
    text = refused("crossmatch", tmp_path / "segue", catalogs[0], "--radius-arcsec", 1, "--out", out)
    assert "no positions" in text
    assert "placeholders" in text
    assert not out.exists()


def test_an_epoch_when_nobody_moves(catalogs, out, tmp_path):
    for epoch in ("2000", "rows"):
        text = refused("crossmatch", catalogs[1], catalogs[1], "--radius-arcsec", 1, "--epoch", epoch, "--out", out)
        assert "epoch" in text
        assert "proper motion" in text
    assert not out.exists()


def test_columns_that_would_have_two_sources(catalogs, out, tmp_path):
    text = refused("crossmatch", *catalogs, "--radius-arcsec", 1, "--prefix", "", "--out", out)
    for part in ("two sources", "ra", "dec", "prefix"):
        assert part in text
    summary("crossmatch", *catalogs, "--radius-arcsec", 1, "--out", tmp_path / "once", "--keep", "all")
    text = refused("crossmatch", tmp_path / "once", catalogs[1], "--radius-arcsec", 1, "--out", out)
    assert "user_ra" in text
    assert "'user_'" in text
    assert not out.exists()


def without_sky_key(table: pa.Table) -> pa.Table:
    return table.drop_columns(["_healpix_29"])


def shuffled(table: pa.Table) -> pa.Table:
    return table.take(np.random.default_rng(1).permutation(table.num_rows))


def rewritten(root: Path, copy: Path, change) -> Path:
    """A catalogue as another program might have written it: other rows order, no sky key, no statistics."""
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns(".stellarscale", "_metadata"))
    schema = None
    for path in copy.rglob("Npix=*.parquet"):
        table = change(pq.read_table(path, partitioning=None))
        pq.write_table(table, path, write_statistics=False, row_group_size=50)
        schema = table.schema
    pq.write_metadata(schema, copy / "dataset" / "_common_metadata")
    return copy


@pytest.mark.parametrize("change", [without_sky_key, shuffled, lambda table: shuffled(without_sky_key(table))])
@pytest.mark.parametrize("keep", ["nearest", "mutual"])
def test_unsorted_files_and_files_without_a_sky_key_give_the_same_pairs(catalogs, tmp_path, change, keep):
    options = ("--radius-arcsec", 60, "--keep", keep, "--epoch", 2000)
    summary("crossmatch", *catalogs, *options, "--out", tmp_path / "good")
    odd = [rewritten(path, tmp_path / f"odd-{path.name}", change) for path in catalogs]
    summary("crossmatch", *odd, *options, "--prefix", "user_", "--out", tmp_path / "odd")
    pairs = [
        sorted(zip(column(tmp_path / name, "source_id"), column(tmp_path / name, "user_id"), strict=True))
        for name in ("good", "odd")
    ]
    assert len(pairs[0]) > PAIRS / 2
    assert pairs[0] == pairs[1]
    assert not verify(tmp_path / "odd").problems


@pytest.mark.parametrize("damage", ["cut", "gone"])
@pytest.mark.parametrize("side", [0, 1])
def test_a_damaged_partition_is_named_the_rest_is_done_and_the_repair_completes(catalogs, out, tmp_path, damage, side):
    pair = list(catalogs)
    pair[side] = Path(shutil.copytree(pair[side], tmp_path / "hurt"))
    victim = sorted(pair[side].rglob("Npix=*.parquet"))[1]
    whole = victim.read_bytes()
    victim.unlink()
    if damage == "cut":
        victim.write_bytes(whole[:-60])
    text = refused("crossmatch", *pair, "--radius-arcsec", 1, "--out", out)
    assert str(victim) in text
    assert "the rest is finished and kept" in text
    assert unfinished(out)
    assert "no HATS catalogue" in refused("info", out)
    state = summary("status", out)["steps"][0]
    assert state["state"] == "failed or killed"
    assert 0 < state["tasks_done"] < len(open_stored(catalogs[0]).pixels)
    victim.write_bytes(whole)
    done = summary("crossmatch", *pair, "--radius-arcsec", 1, "--out", out)
    assert done["matched"] == PAIRS
    assert done["resumed_partitions"] == state["tasks_done"]
    assert not verify(out).problems
    assert summary("status", out)["steps"][0]["state"] == "finished"


def test_a_file_of_another_schema_in_a_catalogue_is_named(catalogs, out, tmp_path):
    hurt = Path(shutil.copytree(catalogs[1], tmp_path / "hurt"))
    victim = sorted(hurt.rglob("Npix=*.parquet"))[0]
    table = pq.read_table(victim, partitioning=None)
    pq.write_table(table.drop_columns(["g_mag"]), victim)
    text = refused("crossmatch", catalogs[0], hurt, "--radius-arcsec", 1, "--out", out)
    assert "g_mag" in text
    assert unfinished(out)
    result = call("verify", hurt)
    assert result.exit_code == 1
    assert victim.name in result.stdout
    assert "g_mag" in result.stdout


def test_ids_beyond_2_to_the_53_are_exact_from_end_to_end(catalogs, tmp_path):
    out = tmp_path / "m"
    summary("crossmatch", *catalogs, "--radius-arcsec", 1, "--out", out)
    expected = sorted((FIRST_ID + 4 * i, str(FIRST_ID + 4 * i + 2**54)) for i in range(PAIRS))
    assert sorted(zip(column(out, "source_id"), column(out, "user_id"), strict=True)) == expected
    for suffix in ("fits", "csv", "vot", "parquet"):
        summary("export", out, "--out", tmp_path / f"m.{suffix}", "--columns", "source_id,user_id")
    assert sorted(Table.read(tmp_path / "m.fits")["source_id"].tolist()) == [one for one, _ in expected]
    lines = (tmp_path / "m.csv").read_text().replace('"', "").splitlines()
    assert sorted(lines[1:]) == sorted(f"{one},{other}" for one, other in expected)
    assert sorted(pq.read_table(tmp_path / "m.parquet")["source_id"].to_pylist()) == [one for one, _ in expected]
    assert sorted(np.asarray(Table.read(tmp_path / "m.vot")["source_id"]).tolist()) == [one for one, _ in expected]
