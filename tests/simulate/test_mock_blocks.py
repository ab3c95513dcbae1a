"""Plans of mocks that are made block by block: every row in one block, every step with a stream of its own."""

from __future__ import annotations

import itertools
import json
import time

import pytest

from stellarscale.simulate.blocks import threads_of, write_manifest
from stellarscale.simulate.mplan import MStarPlan
from stellarscale.simulate.plan import SkyPlan
from stellarscale.simulate.smss_plan import ImagePlan

KINDS = [MStarPlan, ImagePlan]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("more", [0, 1, 5])
def test_blocks_hold_every_row_once(kind, more):
    plan = kind(rows=3 * kind.block_rows + more, seed=1)
    rows = [row for block in range(plan.blocks) for row in range(*plan.bounds(block))]
    assert rows == list(range(plan.rows))
    assert plan.blocks == (3 if more == 0 else 4)


def test_streams_differ_by_kind_step_block_and_seed():
    plans = [kind(rows=600, seed=seed) for kind in KINDS for seed in (1, 2)]
    draws = [plan.rng(step, block).random() for plan in plans for step in plan.steps for block in (0, 1)]
    draws += [SkyPlan(rows=600, seed=seed).rng(chunk, "stars").random() for seed in (1, 2) for chunk in (0, 1)]
    assert len(set(draws)) == len(draws)
    for one, other in itertools.combinations([range(kind.stream, kind.stream + len(kind.steps)) for kind in KINDS], 2):
        assert not set(one) & set(other)


def test_threads_are_those_asked_for_or_one_a_processor():
    assert threads_of(3) == 3
    assert threads_of(None) >= 1


def test_the_manifest_is_written_without_folder_and_time(tmp_path):
    manifest = write_manifest(tmp_path, {"rows": 3}, started=time.perf_counter())
    assert json.loads((tmp_path / "manifest.json").read_text()) == {"rows": 3}
    assert (manifest["rows"], manifest["out"]) == (3, str(tmp_path))
    assert manifest["seconds"] >= 0
