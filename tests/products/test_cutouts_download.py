"""The downloader of cut-outs: what it fetches, leaves, records; and the command, from files to a folder."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from reference.cutout_server import cutout_server, fits_bytes
from reference.mock_catalog import mock_table, write_mock

from stellarscale.cli import main
from stellarscale.config import digest_of, load_job
from stellarscale.engine.ledger import open_ledger
from stellarscale.errors import ConfigError, InputError, RunError
from stellarscale.products.cutout_requests import fetch_cutouts, stamp_side_deg, star_requests
from stellarscale.products.cutouts_download import cutout_path, download_cutouts, read_gone
from stellarscale.surveys.cutout_service import CutoutRequest, CutoutService

N = 12


def requests(n: int = N) -> list[CutoutRequest]:
    return [
        CutoutRequest(5_000_100 + k // 2, 20150101000000 + k, 1 + k, "uvgriz"[k % 6], 10.0 + k, -30.0) for k in range(n)
    ]


@pytest.fixture
def server():
    with cutout_server() as made:
        yield made


def service_of(server, **settings) -> CutoutService:
    quick = {"requests_per_s": 500.0, "backoff_s": 0.01, "timeout_s": 5.0} | settings
    return CutoutService(base_url=server.url, **quick)


def name(request: CutoutRequest) -> str:
    return f"{request.image_id}-{request.ccd}"


def counts(summary) -> tuple[int, int, int, int]:
    return tuple(summary[key] for key in ("asked", "there", "fetched", "failed"))


def failures(out: Path) -> list[list[str]]:
    with (out / "failed.csv").open(newline="") as stream:
        return list(csv.reader(stream))[1:]


def leftovers(out: Path) -> list[Path]:
    return [
        path
        for path in out.rglob("*")
        if path.is_file() and path.suffix not in {".fits", ".csv"} and path.name != "lock"
    ]


def test_all_come_into_their_shards_and_are_not_asked_for_again(server, tmp_path):
    out = tmp_path / "cutouts"
    done = download_cutouts(requests(), out, service_of(server))
    assert counts(done) == (N, 0, N, 0)
    assert done["failed_list"] is None
    assert not (out / "failed.csv").exists()
    first = requests()[0]
    path = out / "100" / "5000100" / "20150101000000-1.fits"
    assert cutout_path(out, first) == path
    assert path.read_bytes() == fits_bytes(first.ra, first.dec)
    files = list(out.rglob("*.fits"))
    assert done["bytes"] == sum(file.stat().st_size for file in files)
    again = download_cutouts(requests(), out, service_of(server))
    assert counts(again) == (N, N, 0, 0)
    assert len(server.asked) == N


def test_damaged_files_are_fetched_again(server, tmp_path):
    download_cutouts(requests(), tmp_path, service_of(server))
    one, other = (cutout_path(tmp_path, request) for request in requests()[:2])
    one.write_bytes(one.read_bytes()[:3000])
    other.write_bytes(b"")
    (other.parent / f".{other.name}.1-abc.stellarscale-part").write_bytes(b"left by a killed process")
    assert counts(download_cutouts(requests(), tmp_path, service_of(server))) == (N, N - 2, 2, 0)
    assert leftovers(tmp_path) == []


def test_failures_are_recorded_and_what_does_not_exist_is_not_asked_for_again(server, tmp_path):
    gone, ill, odd = requests()[2], requests()[5], requests()[7]
    server.script = {name(gone): [404], name(ill): [503] * 2, name(odd): ["html"] * 2}
    done = download_cutouts(requests(), tmp_path, service_of(server, attempts=2))
    assert counts(done) == (N, 0, N - 3, 3)
    assert done["failed_list"] == str(tmp_path / "failed.csv")
    rows = {row[1]: row for row in failures(tmp_path)}
    assert rows[str(gone.image_id)][:4] == [str(gone.object_id), str(gone.image_id), str(gone.ccd), "1"]
    assert "HTTP 404" in rows[str(gone.image_id)][4]
    assert "HTTP 503" in rows[str(ill.image_id)][4]
    assert "No such image" in rows[str(odd.image_id)][4]
    assert leftovers(tmp_path) == []
    asked = len(server.asked)
    again = download_cutouts(requests(), tmp_path, service_of(server))
    assert counts(again) == (N, N - 3, 2, 1)
    assert sorted(server.images()[asked:]) == sorted([name(ill), name(odd)])
    assert [row[1] for row in failures(tmp_path)] == [str(gone.image_id)]
    (tmp_path / "failed.csv").unlink()
    assert counts(download_cutouts(requests(), tmp_path, service_of(server))) == (N, N - 1, 1, 0)


def test_a_list_of_failures_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path):
    path = tmp_path / "failed.csv"
    path.write_text('object_id,image_id,ccd,permanent,reason\n1,2,3,1,"HTTP 404, gone"\n4,5,6,0,later\n7,8,')
    assert read_gone(path) == {(1, 2, 3): "HTTP 404, gone"}
    assert read_gone(tmp_path / "none.csv") == {}


def test_the_rate_holds_over_all_threads(server, tmp_path):
    download_cutouts(requests(), tmp_path, service_of(server, requests_per_s=20.0, threads=6))
    moments = [moment for moment, _, _ in server.asked]
    assert moments[-1] - moments[0] >= 0.9 * (N - 1) / 20.0


def test_a_service_that_is_down_is_left_alone(server, tmp_path):
    server.always = 503
    with pytest.raises(RunError, match=r"in a row.*HTTP 503"):
        download_cutouts(requests(40), tmp_path, service_of(server, attempts=1, give_up_after=10))
    assert 4 <= len(server.asked) <= 4 + 2 * 4, "nothing ever came: it is given up at once"
    assert len(failures(tmp_path)) == 4


def test_a_service_that_breaks_down_gets_more_tries(server, tmp_path):
    asked = requests(40)
    server.always = 503
    server.script[f"{asked[0].image_id}-{asked[0].ccd}"] = [None]
    with pytest.raises(RunError, match="in a row"):
        download_cutouts(asked, tmp_path, service_of(server, attempts=1, give_up_after=10, threads=1))
    assert len(failures(tmp_path)) == 10


def test_many_that_do_not_exist_are_no_breakdown(server, tmp_path):
    server.always = 404
    done = download_cutouts(requests(30), tmp_path, service_of(server, give_up_after=5))
    assert counts(done) == (30, 0, 0, 30)


def test_a_wrong_address_is_told_and_nothing_is_given_up_for_it(server, tmp_path):
    server.always = 404
    with pytest.raises(RunError, match=r"does not exist.*/siap/get_image\?IMAGE=.*HTTP 404.*Needed: .*--url is wrong"):
        download_cutouts(requests(400), tmp_path, service_of(server))
    assert 50 <= len(server.asked) <= 50 + 2 * 4
    assert len(failures(tmp_path)) == 50
    assert read_gone(tmp_path / "failed.csv") == {}
    server.always = None
    assert counts(download_cutouts(requests(80), tmp_path, service_of(server))) == (80, 0, 80, 0)


def test_few_that_do_not_exist_are_believed_once_a_cutout_came(server, tmp_path):
    server.script = {name(request): [404] for request in requests()[:3]}
    server.always = None
    assert counts(download_cutouts(requests()[:3], tmp_path, service_of(server))) == (3, 0, 0, 3)
    assert read_gone(tmp_path / "failed.csv") == {}, "nothing came: it may be the address"
    server.script = {name(request): [404] for request in requests()[:3]}
    assert counts(download_cutouts(requests(), tmp_path, service_of(server))) == (N, 0, N - 3, 3)
    assert sorted(row[1] for row in failures(tmp_path)) == [str(request.image_id) for request in requests()[:3]]
    assert len(read_gone(tmp_path / "failed.csv")) == 3


def test_many_that_do_not_exist_are_believed_where_the_service_still_gives_what_is_there(server, tmp_path):
    asked = requests(70)
    download_cutouts(asked[:2], tmp_path, service_of(server))
    server.script = {name(request): [404] for request in asked[2:]}
    assert counts(download_cutouts(asked, tmp_path, service_of(server))) == (70, 2, 0, 68)
    assert len(read_gone(tmp_path / "failed.csv")) == 68


def test_how_far_it_is_is_told_with_what_failed(server, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("stellarscale.products.cutouts_download._TOLD_EVERY_S", 0.0)
    caplog.set_level("INFO", logger="stellarscale.products.cutouts_download")
    server.script = {name(request): [404] for request in requests()[:2]}
    download_cutouts(requests(), tmp_path, service_of(server), total=N)
    assert (
        caplog.messages[-1] == f"cut-outs: {N} of {N}, {N - 2} fetched, 0 there before, 2 failed (2 HTTP 404 Not Found)"
    )


def test_a_stop_leaves_whole_files_only_and_the_next_call_goes_on(server, tmp_path):
    """A process of its own, interrupted as by Ctrl-C while an answer drips in."""
    server.script = {name(requests()[6]): ["drip"], name(requests()[7]): ["slow"]}
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from stellarscale.products.cutouts_download import download_cutouts
from stellarscale.surveys.cutout_service import CutoutRequest, CutoutService
requests = [{", ".join(map(repr, requests()))}]
service = CutoutService(base_url={server.url!r}, requests_per_s=500.0, timeout_s=8.0, threads=2)
print("ready", flush=True)
download_cutouts(requests, Path({str(tmp_path / "out")!r}), service)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while len(server.asked) < 8 and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    server.release.set()
    _, words = process.communicate(timeout=30)
    assert process.returncode not in (0, None)
    assert "KeyboardInterrupt" in words
    out = tmp_path / "out"
    assert leftovers(out) == []
    there = len(list(out.rglob("*.fits")))
    assert 6 <= there < N
    server.script = {}
    assert counts(download_cutouts(requests(), out, service_of(server))) == (N, there, N - there, 0)


# ---- which cut-outs a job needs


@pytest.fixture(scope="module")
def stars_table() -> pa.Table:
    table = mock_table(60, patch=(150.0, -40.0, 2.0)).select(["_healpix_29", "source_id", "ra", "dec"])
    return table.rename_columns(["_healpix_29", "object_id", "ra", "dec"])


@pytest.fixture(scope="module")
def detections_table(stars_table) -> pa.Table:
    """Two detections of each star in each of three bands, a little off it; one of the two is clipped away in z."""
    rows = np.repeat(np.arange(stars_table.num_rows), 6)
    n = len(rows)
    table = stars_table.take(rows)
    dec = table["dec"].to_numpy() + 1e-4
    from stellarscale.kernels.healpix import pixel_of

    place = pixel_of(table["ra"].to_numpy(), dec)
    made = pa.table(
        {
            "_healpix_29": place,
            "detection_id": np.arange(n),
            "object_id": table["object_id"],
            "ra": table["ra"],
            "dec": pa.array(dec),
            "image_id": 20160101000000 + np.arange(n) % 6 + 100 * rows,
            "ccd": np.full(n, 9, np.int16),
            "band": np.tile(["g", "g", "r", "r", "z", "z"], n // 6),
            "use_in_clipped": np.tile(np.array([1, 1, 1, 1, 1, 0], np.int16), n // 6),
        }
    )
    return made.sort_by("_healpix_29")


@pytest.fixture(scope="module")
def catalogs(tmp_path_factory, stars_table, detections_table) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("catalogs")
    write_mock(root / "all", stars_table, max_rows=20, stellarscale_id="object_id")
    write_mock(root / "some", stars_table.slice(0, 25), max_rows=20, stellarscale_id="object_id")
    write_mock(root / "det", detections_table, max_rows=100, stellarscale_id="detection_id")
    return {name: root / name for name in ("all", "some", "det")}


def test_one_request_for_each_usable_detection_and_a_star_of_two_catalogues_counts_once(catalogs, detections_table):
    settings = load_job("acf").stamps
    found = list(star_requests([catalogs["some"], catalogs["all"]], catalogs["det"], settings))
    usable = detections_table.filter(pa.array(detections_table["use_in_clipped"].to_numpy() == 1))
    expected = set(zip(usable["object_id"].to_pylist(), usable["image_id"].to_pylist(), strict=True))
    assert len(found) == len(expected) == 60 * 5
    assert {(request.object_id, request.image_id) for request in found} == expected
    assert {request.ccd for request in found} == {9}
    only = settings.model_copy(update={"bands": ("r",), "use": ()})
    assert len(list(star_requests([catalogs["all"]], catalogs["det"], only))) == 60 * 2


def test_the_position_is_that_of_the_star(catalogs, stars_table):
    place = {row["object_id"]: (row["ra"], row["dec"]) for row in stars_table.to_pylist()}
    for request in star_requests([catalogs["all"]], catalogs["det"], load_job("acf").stamps):
        assert (request.ra, request.dec) == place[request.object_id]


def test_a_turned_stamp_fits_into_the_cutout():
    assert stamp_side_deg(48) * 3600 / 0.4976 == pytest.approx(72, abs=0.01)


@pytest.fixture(scope="module")
def survey_files(tmp_path_factory) -> Path:
    """Files of a small field: master table, Gaia, GALAH, detections. Every third star has a label."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(6)
    n = 30
    ra, dec = 200.0 + rng.uniform(-0.2, 0.2, n), -45.0 + rng.uniform(-0.2, 0.2, n)
    ids = 300_000_000 + np.arange(n)
    master = {"object_id": ids, "raj2000": ra, "dej2000": dec, "mean_epoch": np.full(n, 57400.0)}
    master |= {"glat": np.full(n, 17.0), "flags": np.where(np.arange(n) % 10 == 9, 4, 0), "class_star": np.full(n, 0.9)}
    master |= {f"{band}_ngood": np.ones(n, int) for band in "uvgriz"}
    master |= {"g_psf": rng.uniform(12, 15, n), "i_psf": rng.uniform(11, 14, n), "ebmv_sfd": np.full(n, 0.05)}
    master |= {"self_dist1": np.full(n, np.nan)}
    gaia = {"source_id": np.arange(n) + 10**18, "ra": ra, "dec": dec, "ref_epoch": np.full(n, 2016.0)}
    gaia |= {"pmra": np.zeros(n), "pmdec": np.zeros(n), "parallax": np.ones(n), "parallax_error": np.full(n, 0.02)}
    some = np.arange(0, n, 3)
    galah = {"sobject_id": some + 1, "ra": ra[some], "dec": dec[some], "teff": np.full(len(some), 5500.0)}
    galah |= {"logg": np.full(len(some), 4.0), "fe_h": np.zeros(len(some)), "flag_sp": np.zeros(len(some), int)}
    galah |= {"flag_fe_h": np.zeros(len(some), int), "snr_c3_iraf": np.full(len(some), 50.0)}
    galah |= {name: np.full(len(some), 0.1) for name in ("e_teff", "e_logg", "e_fe_h")}
    rows = np.repeat(np.arange(n), 2)
    detections = {"object_id": ids[rows], "image_id": 20150101000000 + np.arange(2 * n), "ccd": np.full(2 * n, 3)}
    detections |= {"filter": np.tile(["g", "r"], n), "ra_img": ra[rows], "decl_img": dec[rows]}
    detections |= {"use_in_clipped": np.ones(2 * n, int), "flags": np.zeros(2 * n, int)}
    for file, columns in {"master": master, "gaia": gaia, "galah": galah, "detections": detections}.items():
        from astropy.table import Table

        Table(columns).write(root / f"{file}.csv", format="ascii.csv")
    return root


def overrides(data: Path, out: Path) -> list[str]:
    keys = {"master": "master", "gaia": "gaia", "galah": "galah", "detections": "detections"}
    files = [f'catalogs.{key}.files=["{data}/{file}.csv"]' for key, file in keys.items()]
    return [*files, f"data={data}", f"out={out}", "selection.strata=null"]


def test_the_command_fetches_the_cutouts_of_selected_and_labelled_stars(server, survey_files, tmp_path):
    arguments = [word for each in overrides(survey_files, tmp_path / "run") for word in ("--set", each)]
    command = ["cutouts", "acf", *arguments, "--out", str(tmp_path / "cutouts"), "--url", server.url, "--json"]
    command += ["--rate", "500", "--cluster", "threads:1"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert '"asked": 54, "there": 0, "fetched": 54, "failed": 0' in done.stdout  # 27 stars have flags 0
    assert len(list((tmp_path / "cutouts").rglob("*.fits"))) == 54
    assert float(server.queries[0]["SIZE"]) == pytest.approx(stamp_side_deg(48), rel=1e-4)
    victim = next((tmp_path / "cutouts").rglob("*.fits"))
    victim.unlink()
    server.always = 404
    again = CliRunner().invoke(main, command)
    assert again.exit_code == 1
    assert '"there": 53, "fetched": 0, "failed": 1' in again.stdout


def test_all_detections_of_a_catalogue(server, catalogs, detections_table, tmp_path):
    command = ["cutouts", "acf", "--detections", str(catalogs["det"]), "--out", str(tmp_path / "cutouts")]
    done = CliRunner().invoke(main, [*command, "--url", server.url, "--rate", "2000", "--size-deg", "0.02"])
    assert done.exit_code == 0, done.output
    usable = detections_table.filter(pa.array(detections_table["use_in_clipped"].to_numpy() == 1))
    assert len(server.asked) == len(set(server.images())) == usable.num_rows
    place = {f"{row['image_id']}-{row['ccd']}": f"{row['ra']:.7f},{row['dec']:.7f}" for row in usable.to_pylist()}
    assert {query["IMAGE"]: query["POS"] for query in server.queries} == place
    assert {query["SIZE"] for query in server.queries} == {"0.02"}


def test_a_cutout_of_no_size_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no such cut-out"):
        fetch_cutouts(load_job("acf"), tmp_path, size_deg=0.0)


def test_strata_thin_the_selected_stars_only(server, survey_files, tmp_path):
    job = load_job("acf", [*overrides(survey_files, tmp_path / "run"), "selection.strata={keep_one_in: 1000}"])
    done = fetch_cutouts(job, tmp_path / "cutouts", base_url=server.url, requests_per_s=500.0, cluster="threads:1")
    ledger = open_ledger(tmp_path / "run", step="run", digest=digest_of("acf", "acf"), about={})
    assert ledger.out == tmp_path / "run"  # the run goes on with what was made
    assert done["fetched"] == 9 * 2  # ten stars have labels, of which the last fails the cut of the flags


def test_a_job_of_another_product_and_no_detections_are_told(server, survey_files, tmp_path):
    with pytest.raises(ConfigError, match="product sages"):
        fetch_cutouts(load_job("demo"), tmp_path)
    job = load_job(
        "acf", [*overrides(survey_files, tmp_path / "run"), "stamps.use=[{name: n, columns: [ccd], min: 60}]"]
    )
    with pytest.raises(InputError, match="no detection to fetch"):
        fetch_cutouts(job, tmp_path / "cutouts", base_url=server.url, cluster="threads:1")
    assert server.asked == []


def test_the_command_prints_the_queries():
    done = CliRunner().invoke(main, ["adql", "acf"])
    assert done.exit_code == 0
    assert "FROM dr4.master" in done.stdout
    assert os.linesep in done.stdout
