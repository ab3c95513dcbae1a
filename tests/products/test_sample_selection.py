from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from reference.mock_sample import LINE, OFFSETS, changed, columns_of, matched_spectra, selection

from stellarscale.errors import InputError
from stellarscale.kernels.photometry import line
from stellarscale.partition.sample import reason_counts, sample_rows
from stellarscale.products.sample_exclusions import read_exclusions
from stellarscale.products.sample_labels import offsets_table
from stellarscale.products.sample_selection import all_rejects, select_sample
from stellarscale.settings.sample import Exclusion

SPECTRA = matched_spectra()
CONFIG = selection(keep=["truth_off"])
VARIABLES = [{"name": "variable star", "column": "variables_id"}]
CATALOGS = ("aspcap", "ding22", "laspm", "qiu23")


def select(table, config=CONFIG, **options):
    kept, rejects = sample_rows(table, config)
    result = select_sample(kept, config, **options)
    assert result.sample.num_rows + result.rejects.num_rows == kept.num_rows
    assert result.rejects["reason"].null_count == 0
    return result, all_rejects(rejects, result)


@pytest.fixture(scope="module")
def chosen():
    return select(SPECTRA)


def rows_of(result):
    return {row["obsid"]: row for row in result.sample.to_pylist()}


def reason_of(rejects, obsid):
    return rejects.filter(pc.equal(rejects["obsid"], obsid))["reason"].to_pylist()


def without_labels(table, row, *catalogs):
    for column in (name for catalog in catalogs for name in columns_of(catalog).values()):
        table = changed(table, column, {row: None})
    return table


def quiet_row(branch="dwarf"):
    """The first star of the branch in the sample, with labels of aspcap; its row in SPECTRA."""
    result, _ = select(SPECTRA)
    return next(o - 1000 for o, r in rows_of(result).items() if (r["branch"], r["label_source"]) == (branch, "aspcap"))


def test_offsets_are_recovered(chosen):
    result, _ = chosen
    found = {(item.catalog, item.branch, item.label): item.offset for item in result.offsets}
    assert {key[:2] for key in found} == set(OFFSETS)
    for (catalog, branch), truth in OFFSETS.items():
        for label, value, tolerance in zip(("teff", "logg", "m_h"), truth, (8.0, 0.012, 0.012), strict=True):
            assert found[catalog, branch, label].added == pytest.approx(-value, abs=tolerance), (catalog, branch, label)
            assert found[catalog, branch, label].fit.converged


def test_labels_are_on_the_scale_of_the_reference_within_the_tolerance(chosen):
    result, _ = chosen
    truth = {row["obsid"]: row for row in SPECTRA.to_pylist()}
    for obsid, row in rows_of(result).items():
        limit = 70 if row["branch"] == "giant" else 100
        assert abs(row["teff"] - truth[obsid]["starhorse_teff"]) < limit
        assert abs(row["logg"] - truth[obsid]["starhorse_logg"]) < 0.2
        assert abs(row["m_h"] - truth[obsid]["starhorse_m_h"]) < 0.2
        assert row["source_id"] == truth[obsid]["gaia_source_id"]
        assert row["snr_i"] == truth[obsid]["snr_i"]


def test_branches_are_recovered_and_stars_off_them_left_out(chosen):
    result, rejects = chosen
    for name, truth in LINE.items():
        fit = result.branches[name].branch
        inner = np.linspace(fit.colour[0] + 0.3, fit.colour[1] - 0.5, 9)
        np.testing.assert_allclose(
            line(inner, fit.coefficients), line(inner, truth), atol=0.25
        )  # the magnitude range trims the ends
    assert not any(result.sample["truth_off"].to_pylist())
    off = {row["obsid"] for row in SPECTRA.to_pylist() if row["truth_off"]}
    why = dict(zip(rejects["obsid"].to_pylist(), rejects["reason"].to_pylist(), strict=True))
    assert {why[obsid] for obsid in off} <= {"outside the band", "magnitude range"}


def test_every_row_is_accounted_for(chosen):
    result, rejects = chosen
    seen = sorted(result.sample["obsid"].to_pylist() + rejects["obsid"].to_pylist())
    assert seen == SPECTRA["obsid"].to_pylist()
    steps = result.steps.to_pylist()
    lost = reason_counts(result.rejects)
    for reason, number in lost.items():
        place = next(n for n, row in enumerate(steps) if row["step"] == reason)
        before = sum(row["spectra"] for row in steps[place - 2 : place])
        assert before - sum(row["spectra"] for row in steps[place : place + 2]) == number, reason
    assert sum(row["spectra"] for row in steps[-2:]) == result.sample.num_rows


def test_the_first_catalogue_that_agrees_gives_the_labels():
    row = quiet_row()
    reference = SPECTRA["starhorse_teff"][row].as_py()
    good = {"ding22": reference - 30.0, "laspm": reference}
    table = SPECTRA
    for catalog, teff in good.items():
        for label, place in (("teff", 0), ("logg", 1), ("m_h", 2)):
            value = SPECTRA[f"starhorse_{label}"][row].as_py() + OFFSETS[catalog, "dwarf"][place]
            table = changed(table, f"{catalog}_{label}", {row: teff if label == "teff" else value})
    source = lambda made: rows_of(select(made)[0])[row + 1000]["label_source"]  # noqa: E731
    assert source(table) == "aspcap"
    far = changed(table, "aspcap_teff", {row: reference + 300})
    assert source(far) == "ding22"
    assert source(changed(far, "ding22_m_h", {row: float("nan")})) == "laspm"
    lost = changed(changed(far, "ding22_m_h", {row: None}), "laspm_logg", {row: 9.0})
    assert reason_of(select(lost)[1], row + 1000) == ["labels beyond the tolerance"]
    assert reason_of(select(without_labels(table, row, *CATALOGS))[1], row + 1000) == ["no labels of a catalogue"]
    no_reference = changed(table, "starhorse_logg", {row: float("inf")})
    assert reason_of(select(no_reference)[1], row + 1000) == ["no labels of the reference"]


def test_given_offsets_replace_the_fit():
    offsets = {"dwarf": [-87, 0.05, 0.02], "giant": [-156, -0.16, 0.17]}
    catalogs = [{"name": "aspcap", "columns": columns_of("aspcap"), "offsets": offsets}]
    result, _ = select(SPECTRA, selection(catalogs=catalogs))
    assert offsets_table(result.offsets)["added"].to_pylist() == [-87, 0.05, 0.02, -156, -0.16, 0.17]
    assert set(offsets_table(result.offsets)["method"].to_pylist()) == {"given"}
    row = next(iter(rows_of(result).values()))
    expected = SPECTRA["aspcap_teff"][row["obsid"] - 1000].as_py() + offsets[row["branch"]][0]
    assert row["teff"] == pytest.approx(expected)


def test_a_catalogue_without_overlap_is_named_unless_its_offset_is_given():
    table = SPECTRA
    place = table.schema.get_field_index("qiu23_m_h")
    table = table.set_column(place, "qiu23_m_h", pa.nulls(table.num_rows, pa.float64()))
    with pytest.raises(InputError, match=r"Where: catalogs\.qiu23: qiu23_m_h, branch giant") as caught:
        select(table)
    assert "none with this label" in caught.value.seen
    known = selection(
        catalogs=[
            {"name": "aspcap", "columns": columns_of("aspcap")},
            {"name": "qiu23", "columns": columns_of("qiu23"), "offsets": {b: [0, 0, 0] for b in ("dwarf", "giant")}},
        ]
    )
    result, _ = select(table, known)
    assert offsets_table(result.offsets)["stars"].to_pylist()[-1] == 0
    assert "qiu23" not in result.sample["label_source"].to_pylist()


def test_the_best_spectrum_of_a_star_is_kept_and_counts_once_in_the_fits():
    row = quiet_row()
    worse = changed(changed(SPECTRA.slice(row, 1), "obsid", {0: 5}), "snr_i", {0: 10.5})
    equal = changed(SPECTRA.slice(row, 1), "obsid", {0: 6})
    table = pa.concat_tables([worse, SPECTRA, equal])
    result, rejects = select(table)
    assert row + 1000 in rows_of(result)
    assert reason_of(rejects, 5) == reason_of(rejects, 6) == ["not the best spectrum of its star"]
    plain, _ = select(SPECTRA)
    assert [item.offset.added for item in result.offsets] == [item.offset.added for item in plain.offsets]
    assert result.branches["dwarf"].branch.coefficients == plain.branches["dwarf"].branch.coefficients
    every, _ = select(table, selection(keep=["truth_off"], keep_all_spectra=True))
    assert {5, 6, row + 1000} <= set(rows_of(every))
    stars = [line for line in every.steps.to_pylist() if line["branch"] == "dwarf"][-1]
    assert stars["spectra"] == stars["stars"] + 2


def test_the_next_spectrum_serves_where_the_best_has_no_labels():
    row = quiet_row()
    best = without_labels(changed(SPECTRA.slice(row, 1), "obsid", {0: 5}), 0, *CATALOGS)
    result, rejects = select(pa.concat_tables([SPECTRA, changed(best, "snr_i", {0: 99.0})]))
    assert row + 1000 in rows_of(result)
    assert reason_of(rejects, 5) == ["no labels of a catalogue"]


def test_an_id_given_twice_is_in_the_sample_once():
    row = quiet_row()
    result, rejects = select(pa.concat_tables([SPECTRA, SPECTRA.slice(row, 1)]))
    assert result.sample["obsid"].to_pylist().count(row + 1000) == 1
    assert reason_of(rejects, row + 1000) == ["spectrum given twice"]


def off_branch():
    """A dwarf off the branch with labels of aspcap that agree with the reference; its row."""
    for n, row in enumerate(SPECTRA.to_pylist()):
        shifts = zip(("teff", "logg", "m_h"), OFFSETS["aspcap", row["truth_branch"]], (40, 0.1, 0.1), strict=True)
        if row["truth_off"] and all(
            abs(row[f"aspcap_{name}"] - shift - row[f"starhorse_{name}"]) < limit for name, shift, limit in shifts
        ):
            return n
    raise AssertionError("the mock has such a star")


def test_the_supplement_joins_off_the_branch_and_not_past_variables_or_tolerance():
    row = off_branch()
    table = changed(SPECTRA, "snr_i", {row: 51.0})
    for label, error in (("teff", 9.0), ("logg", 0.04), ("m_h", 0.01)):
        table = changed(table, f"aspcap_{label}_err", {row: error})
    config = selection(exclusions=VARIABLES)
    result, _ = select(table, config)
    assert rows_of(result)[row + 1000]["supplement"]
    assert sum(result.sample["supplement"].to_pylist()) == 1
    joined = [line["spectra"] for line in result.steps.to_pylist() if line["step"] == "supplement joined"]
    banded = [line["spectra"] for line in result.steps.to_pylist() if line["step"] == "outside the band"]
    assert sum(joined) == sum(banded) + 1
    for column, value in (("snr_i", 50.0), ("aspcap_m_h_err", 0.02), ("aspcap_teff_err", None)):
        _, rejects = select(changed(table, column, {row: value}), config)
        assert reason_of(rejects, row + 1000) == ["outside the band"]
    assert reason_of(select(changed(table, "variables_id", {row: 7}), config)[1], row + 1000) == ["variable star"]
    far = changed(table, "starhorse_teff", {row: 2000.0})
    assert reason_of(select(far, config)[1], row + 1000) == ["labels beyond the tolerance"]
    plain, rejects = select(table, selection(supplement=None))
    assert reason_of(rejects, row + 1000) == ["outside the band"]
    assert not any(plain.sample["supplement"].to_pylist())


def test_listed_stars_are_left_out_whether_matched_or_in_a_file(tmp_path):
    row = quiet_row()
    star = SPECTRA["gaia_source_id"][row].as_py()
    matched, rejects = select(changed(SPECTRA, "variables_id", {row: star}), selection(exclusions=VARIABLES))
    assert reason_of(rejects, row + 1000) == ["variable star"]
    ids = pa.table({"source_id": pa.array([star, 5, None], pa.int64())})
    pq.write_table(ids, tmp_path / "list.parquet")
    (tmp_path / "list.csv").write_text(f"name,source_id\nx,{star}\ny,5\n")
    for name in ("list.parquet", "list.csv"):
        exclusion = {"name": "known", "file": str(tmp_path / name)}
        listed = read_exclusions([Exclusion.model_validate(exclusion)], pa.int64())
        result, rejects = select(SPECTRA, selection(exclusions=[exclusion]), excluded=listed)
        assert reason_of(rejects, row + 1000) == ["known"]
        assert result.sample.num_rows == matched.sample.num_rows
    with pytest.raises(InputError, match="were not handed over"):
        select(SPECTRA, selection(exclusions=[exclusion]))


def test_lists_that_cannot_be_read_are_named(tmp_path):
    pq.write_table(pa.table({"source_id": [1e18]}), tmp_path / "floats.parquet")
    (tmp_path / "words.csv").write_text("source_id\nabc\n")
    (tmp_path / "other.csv").write_text("id\n1\n")
    for name in ("floats.parquet", "words.csv", "other.csv", "none.parquet", "none.csv"):
        with pytest.raises(InputError, match=rf"\(variable star\) cannot be used.*{name}"):
            read_exclusions([Exclusion(file=str(tmp_path / name))], pa.int64())


def test_distance_and_colour_limits_take_stars_out():
    dwarf, giant = quiet_row(), quiet_row("giant")
    shift = 5 * np.log10(2100 / SPECTRA["bj_r_med_photogeo"][dwarf].as_py())
    table = changed(SPECTRA, "bj_r_med_photogeo", {dwarf: 2100.0})
    for band in ("g", "bp", "rp"):
        column = f"gaia_{band}_mag"
        table = changed(table, column, {dwarf: table[column][dwarf].as_py() + shift})
    rp = table["gaia_bp_mag"][giant].as_py() - 1.2
    _, rejects = select(changed(table, "gaia_rp_mag", {giant: rp}))
    assert reason_of(rejects, dwarf + 1000) == ["distance"]
    assert reason_of(rejects, giant + 1000) == ["colour range"]


def test_too_few_stars_in_the_bins_name_the_branch_and_the_bins():
    with pytest.raises(InputError, match=r"the giant branch .* cannot be fitted: .* degree 3 needs 4 bins") as caught:
        select(matched_spectra(3000, 40))
    assert caught.value.where == "branches.giant"
    assert "BP-RP 1.25-1.75:" in caught.value.seen
    assert "20 stars or more" in caught.value.needed


def test_a_branch_without_stars_is_skipped_and_said(caplog):
    result, _ = select(matched_spectra(2000, 0))
    assert set(result.branches) == {"dwarf"}
    assert "no star of the branch giant" in caplog.text
    assert {item.branch for item in result.offsets} == {"dwarf"}


def test_no_survivors_is_an_error_with_the_count_of_each_step():
    place = SPECTRA.schema.get_field_index("starhorse_m_h")
    table = SPECTRA.set_column(place, "starhorse_m_h", pa.nulls(SPECTRA.num_rows, pa.float64()))
    with pytest.raises(InputError, match="no star is left") as caught:
        select(table)
    assert "cuts of single rows: 4,200" in caught.value.seen
    assert "no labels of the reference: 0" in caught.value.seen
    with pytest.raises(InputError, match="no spectrum passes"):
        select(SPECTRA.slice(0, 0))


def test_the_order_of_the_rows_does_not_matter(chosen):
    result, _ = chosen
    order = np.random.default_rng(5).permutation(SPECTRA.num_rows)
    shuffled, _ = select(SPECTRA.take(pa.array(order)))
    assert set(shuffled.sample["obsid"].to_pylist()) == set(result.sample["obsid"].to_pylist())
    np.testing.assert_allclose(
        [item.offset.added for item in shuffled.offsets], [item.offset.added for item in result.offsets], rtol=1e-9
    )


def test_an_unprefixed_label_catalogue_and_string_ids_serve():
    names = {"laspm_teff": "teff", "laspm_logg": "logg", "laspm_m_h": "m_h"}
    table = SPECTRA.rename_columns([names.get(name, name) for name in SPECTRA.column_names])
    table = table.set_column(0, "obsid", pc.cast(table["obsid"], pa.string()))
    catalogs = [
        {"name": "laspm", "columns": {"teff": "teff", "logg": "logg", "m_h": "m_h"}, "branches": ["dwarf"]},
        {"name": "qiu23", "columns": columns_of("qiu23"), "branches": ["giant"]},
    ]
    result, rejects = select(table, selection(catalogs=catalogs))
    assert result.sample.schema.field("obsid").type == rejects.schema.field("obsid").type == pa.string()
    assert set(result.sample["label_source"].to_pylist()) == {"laspm", "qiu23"}
