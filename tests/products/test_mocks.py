"""What `simulate` tells of a mock: short, complete, and a command that can be run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import pytest

from stellarscale.config import load_job
from stellarscale.products.inputs import checked_inputs
from stellarscale.products.mocks import mock_summary
from stellarscale.products.telling import summary_text
from stellarscale.simulate import simulate_images, simulate_m_stars, simulate_sky

MAKERS = {"sages": simulate_sky, "laspm": simulate_m_stars, "acf": simulate_images}


@pytest.fixture(scope="module", params=MAKERS)
def mock(request, tmp_path_factory) -> tuple[str, Mapping[str, Any]]:
    out = tmp_path_factory.mktemp("a mock") / request.param
    return request.param, MAKERS[request.param](rows=20, seed=1, out=out, workers=2)


def test_counts_are_those_of_the_manifest(mock):
    product, manifest = mock
    told = mock_summary(manifest)
    assert told[{"sages": "stars", "laspm": "spectra", "acf": "primary_stars"}[product]] == 20
    assert {row["survey"]: row["rows"] for row in told["surveys"]} == {
        name: about["rows"] for name, about in manifest["surveys"].items()
    }
    if product == "laspm":
        assert sum(told["folders"].values()) == 20
        assert told["damaged_files"] == len(manifest["bad_files"])
    if product == "acf":
        assert told["cutouts"] == manifest["cutouts"]["files"]
        assert told["spoilt_cutouts"]["truncated"] == len(manifest["spoilt"]["truncated"])


def test_the_text_is_short_and_names_what_is_there(mock):
    _, manifest = mock
    text = summary_text(mock_summary(manifest))
    assert not set("{}[]") & set(text)
    assert len(text.splitlines()) < 14 + len(manifest["surveys"])
    assert f"{manifest['out']}/truth/truth.parquet, {manifest['truth']['rows']} rows" in text


def test_the_next_command_has_all_its_inputs(mock):
    _, manifest = mock
    words = shlex.split(mock_summary(manifest)["next"])
    assert words[:2] == ["stellarscale", "run"]
    job = load_job(words[2], words[4::2])
    assert checked_inputs(job).keys() == set(job.used_catalogs)
    assert job.data == manifest["out"]
