"""Matching tables of spectra: labels, flags, grids, and what must not happen to rows."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from reference.template_loop import match_loop

from stellarscale.errors import InputError, SchemaError
from stellarscale.flags import Flag
from stellarscale.kernels.wavelength import LIGHT_KMS, WaveGrid
from stellarscale.partition.references import edges, prepare_references
from stellarscale.partition.spectra_match import (
    SpectraMatchConfig,
    match_partition,
    needed_columns,
    output_schema,
)
from stellarscale.schema import load_product
from stellarscale.settings.spectra_matching import EdgeRule, RvRefinement, SpectraMatching
from stellarscale.spectra_columns import spectrum_array, spectrum_field

GRID = WaveGrid.covering(6000, 6300)
SETTINGS = SpectraMatching(windows_aa=((6020, 6280),), min_pixels=50, columns={"id": "obsid"}, snr=None)
CONFIG = SpectraMatchConfig(SETTINGS, load_product("laspm"))
TEFF, LOGG, M_H = np.meshgrid(np.arange(3000, 3401, 50), [4.8, 5.0], np.arange(-0.6, 0.11, 0.1), indexing="ij")
LABELS = np.stack([TEFF.ravel(), LOGG.ravel(), M_H.ravel()], axis=1)
INSIDE = np.array([[3175.0, 4.9, -0.33], [3240.0, 5.0, -0.2]])


def model(labels, velocity_kms=0.0):
    """Spectra whose features depend on the labels, each label on its own lines."""
    wave = GRID.wave_aa / (1.0 + velocity_kms / LIGHT_KMS)
    rng = np.random.default_rng(11)
    flux = np.ones((len(labels), len(wave)))
    scaled = (np.asarray(labels) - [3200, 4.9, -0.25]) / [400, 0.4, 0.7]
    for number in range(36):
        depth = 0.25 + 0.2 * scaled[:, number % 3] + 0.05 * scaled[:, (number + 1) % 3] ** 2
        flux *= 1.0 - depth[:, None] * np.exp(-0.5 * ((wave - rng.uniform(6000, 6300)) / 3.0) ** 2)
    return flux


def table_of(flux, ivar, grid=GRID, **columns) -> pa.Table:
    fields = [spectrum_field("flux", grid), spectrum_field("ivar", grid)]
    table = pa.table([spectrum_array(flux, "flux", grid), spectrum_array(ivar, "ivar", grid)], schema=pa.schema(fields))
    given = {"obsid": np.arange(len(flux)), "rv": np.full(len(flux), 20.0), **columns}
    for name, values in given.items():
        table = table.append_column(name, pa.array(values))
    return table


def observed(labels, snr=200.0, seed=1, **options) -> pa.Table:
    flux = model(labels, **options)
    sigma = flux.mean() / snr
    noisy = 1e-2 * (flux + np.random.default_rng(seed).normal(0, sigma, flux.shape))
    return table_of(noisy, np.full(flux.shape, (1e-2 * sigma) ** -2))


def changed(table: pa.Table, name: str, values) -> pa.Table:
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(at), spectrum_array(values, name, GRID))


def spectra(table, name):
    return np.stack(table[name].to_pylist()).astype(np.float32)


def config(**changes) -> SpectraMatchConfig:
    return replace(CONFIG, matching=SETTINGS.model_copy(update=changes))


def prepared(settings=SETTINGS, **options):
    return prepare_references(model(LABELS).astype(np.float32), None, LABELS, GRID, settings, **options)


@cache
def standard():
    """The references of most tests."""
    return prepared()


def flags_of(result) -> list[Flag]:
    return [Flag(value) for value in result["quality_flags"].to_pylist()]


def test_labels_are_those_of_the_plain_loop():
    table = observed(INSIDE, snr=50)
    result = match_partition(table, CONFIG, standard())
    inside = GRID.window(6020, 6280)
    templates = model(LABELS).astype(np.float32)[:, inside]
    for row in range(2):
        flux, ivar = (spectra(table, name)[row, inside] for name in ("flux", "ivar"))
        loop = match_loop(flux, ivar, templates, order=2, k=5)
        assert result["reference_ids"][row].as_py() == loop.index.tolist()
        np.testing.assert_allclose(result["reference_weights"][row].as_py(), loop.weights, atol=2e-4)
        near = LABELS[loop.index]
        for number, label in enumerate(SETTINGS.labels):
            mean = loop.weights @ near[:, number]
            assert result[label][row].as_py() == pytest.approx(mean, rel=1e-4)
            spread = np.sqrt(loop.weights @ (near[:, number] - mean) ** 2)
            assert result[f"{label}_spread"][row].as_py() == pytest.approx(spread, rel=1e-2, abs=1e-3)
        assert result["chi2"][row].as_py() == pytest.approx(loop.chi2_combined, rel=1e-4)
        dof = loop.n_pix - 3 - (np.count_nonzero(loop.weights) - 1)
        assert result["chi2_reduced"][row].as_py() == pytest.approx(loop.chi2_combined / dof, rel=1e-4)
        assert result["n_pix"][row].as_py() == loop.n_pix == inside.stop - inside.start
    assert flags_of(result) == [Flag(0), Flag(0)]


def test_parameters_are_recovered():
    result = match_partition(observed(np.repeat(INSIDE, 50, axis=0)), CONFIG, standard())
    for number, (label, tolerance) in enumerate({"teff": 25, "logg": 0.06, "m_h": 0.05}.items()):
        assert np.abs(result[label].to_numpy() - np.repeat(INSIDE[:, number], 50)).max() < tolerance


def test_the_result_has_the_declared_schema():
    schema = output_schema(observed(INSIDE).schema, CONFIG)
    table = observed(INSIDE).append_column("_healpix_29", pa.array([7, 9]))
    for rows in (table, table.slice(0, 0)):
        result = match_partition(rows, CONFIG, standard())
        assert result.schema.equals(output_schema(table.schema, CONFIG), check_metadata=True)
        assert result.num_rows == rows.num_rows
        result.validate(full=True)
    assert result.column_names[:2] == ["_healpix_29", "id"]
    assert schema.field("teff").metadata[b"unit"] == b"K"
    assert schema.field("reference_ids").type == pa.list_(pa.field("element", pa.int32()), 5)
    assert schema.field("reference_weights").metadata[b"ucd"] == b"stat.weight"
    assert {"rv_shift", "rv_shift_err"} & set(schema.names) == set()


def test_what_lies_outside_of_the_windows_does_not_matter():
    table = observed(INSIDE)
    flux = spectra(table, "flux")
    flux[:, : GRID.window(6020, 6280).start] = 1e6
    flux[:, GRID.window(6100, 6200)] = np.nan
    gap = config(windows_aa=((6020, 6099), (6201, 6280)))
    references = prepared(gap.matching)
    assert match_partition(table, gap, references).equals(
        match_partition(changed(table, "flux", flux), gap, references)
    )


def test_pixels_without_weight_do_not_matter():
    table = observed(INSIDE)
    bad = np.random.default_rng(4).random((2, GRID.n_pix)) < 0.3
    ivar = np.where(bad, 0.0, spectra(table, "ivar"))
    results = []
    for nonsense in (0.0, 1e8, -1e8, np.nan, np.inf):
        flux = np.where(bad, nonsense, spectra(table, "flux"))
        results.append(match_partition(changed(changed(table, "flux", flux), "ivar", ivar), CONFIG, standard()))
    assert all(each.equals(results[0]) for each in results)
    ivar[bad] = np.nan
    assert match_partition(changed(table, "ivar", ivar), CONFIG, standard()).equals(results[0])


def test_spectra_that_cannot_be_matched_are_kept_without_labels():
    table = observed(np.repeat(INSIDE[:1], 4, axis=0))
    flux, ivar = spectra(table, "flux"), spectra(table, "ivar")
    ivar[0] = 0.0
    flux[1] *= -1.0
    ivar[2, 40:] = 0.0
    result = match_partition(changed(changed(table, "flux", flux), "ivar", ivar), CONFIG, standard())
    assert result["id"].to_pylist() == [0, 1, 2, 3]
    assert [value is None for value in result["teff"].to_pylist()] == [True, True, True, False]
    assert result["chi2"].null_count == result["m_h_spread"].null_count == 3
    flags = flags_of(result)
    assert Flag.TOO_FEW_PIXELS in flags[0]
    assert flags[1] == Flag.NOT_POSITIVE_FLUX
    assert Flag.TOO_FEW_PIXELS in flags[2]
    assert flags[3] == Flag(0)
    assert result["reference_ids"][0].as_py() == [-1] * 5
    assert result["reference_weights"][0].as_py() == [0.0] * 5
    assert result["rv"].to_pylist() == [20.0] * 4


def test_null_spectra_are_kept_without_labels():
    table = observed(INSIDE)
    at = table.schema.get_field_index("flux")
    nulls = pa.array([table["flux"][0].as_py(), None], type=table.schema.field("flux").type)
    result = match_partition(table.set_column(at, table.schema.field(at), nulls), CONFIG, standard())
    assert [value is None for value in result["teff"].to_pylist()] == [False, True]


def test_flags_of_the_import_stay():
    table = observed(INSIDE).append_column("quality_flags", pa.array([int(Flag.MASKED_PIXELS), None], pa.int32()))
    assert flags_of(match_partition(table, CONFIG, standard())) == [Flag.MASKED_PIXELS, Flag(0)]


def test_low_signal_to_noise_is_flagged_by_the_column_or_else_the_spectrum():
    table = observed(np.repeat(INSIDE, 2, axis=0), snr=20)
    told = config(snr="snr_i", snr_min=10.0)
    table = table.append_column("snr_i", pa.array([30.0, 5.0, None, 10.0]))
    low = [Flag.LOW_SNR in flags for flags in flags_of(match_partition(table, told, standard()))]
    assert low == [False, True, False, False]
    measured = config(snr_min=40.0)
    assert all(Flag.LOW_SNR in flags for flags in flags_of(match_partition(table, measured, standard())))


def test_a_bad_fit_is_one_beyond_the_mismatch_of_the_references():
    table = observed(INSIDE, snr=300)
    ripple = 1.0 + 0.04 * np.sin(np.arange(GRID.n_pix))
    odd = changed(table, "flux", spectra(table, "flux") * ripple)
    strict, kind = config(mismatch=0.0), config(mismatch=0.05)
    assert flags_of(match_partition(table, strict, standard())) == [Flag(0)] * 2
    assert flags_of(match_partition(odd, strict, standard())) == [Flag.BAD_FIT] * 2
    assert flags_of(match_partition(odd, kind, standard())) == [Flag(0)] * 2


def test_stars_beyond_the_grid_are_at_its_edge():
    labels = np.array([[2900.0, 4.9, -0.3], [3200.0, 4.9, 0.3], [3200.0, 4.9, -0.25], [3500.0, 4.9, -0.3]])
    table = observed(labels)
    at_edge = [Flag.EDGE_OF_GRID in flags for flags in flags_of(match_partition(table, CONFIG, standard()))]
    assert at_edge == [True, True, False, True]
    ruleless = config(edge=None)
    result = match_partition(table, ruleless, prepared(ruleless.matching))
    assert not any(Flag.EDGE_OF_GRID in flags for flags in flags_of(result))


def test_edges_are_where_nothing_lies_beyond():
    labels = np.array([[3000.0, 5.0], [3040.0, 5.0], [3080.0, 5.0], [3120.0, 5.0], [3500.0, 1.0]])
    rule = EdgeRule(bins={"teff": 50.0}, reach={"logg": 0.5})
    found = edges(labels, ("teff", "logg"), rule)
    assert found[:, 0].tolist() == [True, True, False, False, True]  # lower: the giant has no dwarf beside it
    assert found[:, 1].tolist() == [False, False, True, True, True]


@pytest.mark.parametrize("velocity", [-23.0, 8.0])
def test_velocities_add_up(velocity):
    refining = config(refine_rv=RvRefinement(half_range_kms=50, step_kms=5))
    table = observed(np.repeat(INSIDE, 30, axis=0), snr=100, velocity_kms=velocity)
    result = match_partition(table, refining, prepared(refining.matching))
    shift, err = result["rv_shift"].to_numpy(), result["rv_shift_err"].to_numpy()
    assert abs(np.mean(shift) - velocity) < 3 * np.median(err)
    np.testing.assert_allclose(result["rv"].to_numpy(), 20.0 + shift * (1 + 20.0 / LIGHT_KMS), rtol=1e-5)
    np.testing.assert_array_equal(result["rv_err"].to_numpy(), err)


def test_a_velocity_beyond_the_search_is_flagged_and_not_added():
    refining = config(refine_rv=RvRefinement(half_range_kms=20, step_kms=5))
    table = observed(INSIDE, velocity_kms=60.0)
    result = match_partition(table, refining, prepared(refining.matching))
    assert all(Flag.RV_AT_LIMIT in flags for flags in flags_of(result))
    assert result["rv_shift"].to_pylist() == [20.0, 20.0]
    assert result["rv"].to_pylist() == [20.0, 20.0]
    assert result["rv_err"].null_count == result["rv_shift_err"].null_count == 2


def test_a_refinement_replaces_labels_but_not_spreads():
    def refine(flux, ivar, matches):
        assert flux.shape == ivar.shape == (len(matches.index), standard().grid.n_pix)
        return np.where(np.arange(len(flux))[:, None] == 0, [[3111.0, 4.0, np.nan]], np.nan)

    table = observed(INSIDE)
    plain = match_partition(table, CONFIG, standard())
    better = match_partition(table, CONFIG, replace(prepared(), refine=refine))
    assert (better["teff"][0].as_py(), better["logg"][0].as_py()) == (3111.0, 4.0)
    assert better["m_h"].equals(plain["m_h"])
    assert better["teff"][1] == plain["teff"][1]
    assert better["teff_spread"].equals(plain["teff_spread"])


def test_spectra_on_a_larger_aligned_grid_match_the_same():
    references = replace(standard(), grid=WaveGrid(standard().grid.start_dex, 1e-4, standard().grid.n_pix))
    table = observed(INSIDE)
    wide = WaveGrid(GRID.start_dex - 30e-4, GRID.step_dex, GRID.n_pix + 50)
    padded = [np.pad(spectra(table, name), ((0, 0), (30, 20))) for name in ("flux", "ivar")]
    assert match_partition(table_of(*padded, grid=wide), CONFIG, references).equals(
        match_partition(table, CONFIG, standard())
    )


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (
            WaveGrid(GRID.start_dex + 0.4e-4, 1e-4, GRID.n_pix),
            r"another wavelength grid.*references: \d+ pixels.*spectra",
        ),
        (WaveGrid(GRID.start_dex, 1.1e-4, GRID.n_pix), "another wavelength grid"),
        (WaveGrid(GRID.start_dex + 60e-4, 1e-4, GRID.n_pix), "do not cover the wavelengths"),
        (WaveGrid(GRID.start_dex, 1e-4, GRID.n_pix - 60), "do not cover the wavelengths"),
    ],
)
def test_spectra_on_another_grid_are_refused(grid, message):
    flux = np.ones((2, grid.n_pix))
    with pytest.raises(InputError, match=message):
        match_partition(table_of(flux, flux, grid=grid), CONFIG, standard())


def test_identical_references_are_left_out_with_a_record():
    flux, labels = model(LABELS).astype(np.float32), LABELS
    doubled = np.concatenate([flux[:3], flux[:1], flux[3:], flux[2:3]])
    labels = np.concatenate([labels[:3], labels[:1], labels[3:], labels[2:3]])
    references = prepare_references(doubled, None, labels, GRID, SETTINGS)
    assert references.duplicates == ((3, 0), (len(doubled) - 1, 2))
    assert len(references.flux) == len(flux)
    result = match_partition(observed(LABELS[40:41], snr=1000), CONFIG, references)
    assert result["reference_ids"][0].as_py()[0] == 41  # its row in the file, the duplicate before it counted


def test_masked_pixels_of_references_are_interpolated():
    flux = model(LABELS).astype(np.float32)
    ivar = np.ones_like(flux)
    flux[7, 100], ivar[7, 100] = np.nan, 0.0
    references = prepare_references(flux, ivar, LABELS, GRID, SETTINGS)
    assert references.filled == 1
    at = 100 - GRID.window(6020, 6280).start
    assert references.flux[7, at] == pytest.approx((flux[7, 99] + flux[7, 101]) / 2)


def test_references_that_cannot_serve_are_refused_by_row():
    flux = model(LABELS).astype(np.float32)
    holes = LABELS.copy()
    holes[[2, 5]] = np.nan
    with pytest.raises(InputError, match=r"2 references without labels.*rows 2, 5 .*finite teff, logg, m_h"):
        prepare_references(flux, None, holes, GRID, SETTINGS)
    broken = flux.copy()
    broken[4, 100] = np.inf
    with pytest.raises(InputError, match=r"1 references with flux that is not finite.*rows 4"):
        prepare_references(broken, None, LABELS, GRID, SETTINGS)
    ivar = np.ones_like(flux)
    ivar[1, 50:130] = 0.0
    with pytest.raises(InputError, match=r"too many masked pixels.*rows 1"):
        prepare_references(flux, ivar, LABELS, GRID, SETTINGS)
    with pytest.raises(InputError, match="not positive"):
        prepare_references(-flux, None, LABELS, GRID, SETTINGS)
    with pytest.raises(InputError, match="0 spectra"):
        prepare_references(flux[:0], None, LABELS[:0], GRID, SETTINGS)
    with pytest.raises(InputError, match=r"do not cover.*Needed: 6000-8800 Angstrom"):
        prepare_references(flux, None, LABELS, GRID, SpectraMatching())


def test_fewer_references_than_are_combined():
    few = prepare_references(model(LABELS[40:43]).astype(np.float32), None, LABELS[40:43], GRID, SETTINGS)
    result = match_partition(observed(INSIDE), CONFIG, few)
    ids, weights = result["reference_ids"][0].as_py(), result["reference_weights"][0].as_py()
    assert ids[3:] == [-1, -1]
    assert weights[3:] == [0.0, 0.0]
    assert sum(weights) == pytest.approx(1.0)
    assert result["teff"].null_count == 0


def test_columns_that_are_missing_or_taken_are_named():
    table = observed(INSIDE)
    assert needed_columns(table.schema, SETTINGS) == ["flux", "ivar", "obsid", "rv"]
    with pytest.raises(SchemaError, match="Needed: snr_i"):
        match_partition(table, config(snr="snr_i"), standard())
    with pytest.raises(SchemaError, match=r"names of those.*teff"):
        output_schema(table.schema, config(columns={"teff": "obsid"}))
    with pytest.raises(SchemaError, match=r"does not describe.*alpha"):
        output_schema(table.schema, config(labels=("teff", "alpha")))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"windows_aa": [[6000, 5000]]}, "holds no wavelength"),
        ({"k": 8, "candidates": 4}, "8 references cannot be combined of 4"),
        ({"edge": {"bins": {"alpha": 1.0}}}, "alpha: no label"),
        ({"refine_rv": {"half_range_kms": 10, "step_kms": 8}}, "leaves no grid"),
        ({"order": 3}, "order"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SpectraMatching(**settings)
