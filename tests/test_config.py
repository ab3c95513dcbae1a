from __future__ import annotations

import pytest
import yaml

from stellarscale.config import SagesJob, digest_of, load_job
from stellarscale.errors import ConfigError
from stellarscale.resources import resource_directory

JOBS = sorted(path.stem for path in resource_directory("jobs").glob("*.yaml"))


@pytest.mark.parametrize("name", JOBS)
def test_every_shipped_job_is_valid(name):
    job = load_job(name)
    assert job.name == name
    assert set(job.used_catalogs) <= set(job.catalogs)


@pytest.mark.parametrize("name", JOBS)
def test_models_of_a_shipped_job_have_names_of_their_own(name):
    job = load_job(name)
    names = [spec.name for spec in job.training.models] if isinstance(job, SagesJob) else []
    assert len(set(names)) == len(names)


def test_overrides_reach_deep_and_are_typed():
    job = load_job("apokasc", ["training.forest.n_estimators=7", "seed=3", "features.colours=[g-r]"])
    assert (job.training.forest.n_estimators, job.seed, job.features.colours) == (7, 3, ("g-r",))


def test_data_directory_is_filled_in_everywhere():
    job = load_job("demo", ["data=/sky"])
    assert job.catalogs["gaia"].files == ("/sky/gaia/*.csv.gz",)
    assert job.features.ebv.sfd98 == "/sky/dust"
    assert job.truth.file == "/sky/truth/truth.parquet"


@pytest.mark.parametrize(
    "override, message",
    [
        ("training.forest.n_estimator=3", "did you mean 'n_estimators'"),
        ("trainin.forest=3", "trainin"),
        ("seed", "KEY=VALUE"),
        ("seed.deeper=1", "no keys"),
        ("training.test_fraction=1.5", "test_fraction"),
        ("match.primary=nowhere", "catalogues named but not declared: nowhere"),
        ("features.colours=[g-x]", "bands named but not declared: x"),
        ("training.models=[{label: age}]", "models of undeclared labels: age"),
        ("training.labels.age={column: age, max_error: 1}", "max_error needs `error`"),
        ("features.ebv={value: 0.1, column: ebv}", "exactly one"),
        ("catalogs.apokasc={survey: apokasc}", "files"),
        ("product=other", "sages"),
    ],
)
def test_a_wrong_setting_is_told(override, message):
    with pytest.raises(ConfigError, match=message):
        load_job("apokasc", [override])


def test_missing_job_lists_the_shipped_ones():
    with pytest.raises(ConfigError, match="apokasc"):
        load_job("no-such-job.yaml")


def test_absolute_magnitudes_need_a_parallax():
    with pytest.raises(ConfigError, match="need `parallax`"):
        load_job("apokasc", ["features.absolute=[g]"])


@pytest.mark.parametrize("name", JOBS)
def test_a_job_survives_json(name):
    job = load_job(name)
    kind = type(job)
    assert kind.model_validate_json(job.model_dump_json()) == job
    assert kind.model_validate(yaml.safe_load(yaml.safe_dump(job.model_dump(mode="json")))) == job


def test_digest_depends_on_settings_only():
    assert digest_of(load_job("segue")) == digest_of(load_job("segue"))
    assert digest_of(load_job("segue")) != digest_of(load_job("segue", ["seed=1"]))


def test_a_job_file_that_is_no_mapping_is_refused(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text("[1, 2]")
    with pytest.raises(ConfigError, match="no settings"):
        load_job(str(path))
    path.write_text("a: [")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_job(str(path))


def test_a_misspelt_class_is_told_with_the_job():
    with pytest.raises(ConfigError, match="does not define: gaint"):
        load_job("demo", ["training.models=[{label: teff, classes: [gaint]}]"])
