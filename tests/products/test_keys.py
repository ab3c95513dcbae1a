"""Every key of a job file is told: name, kind, default, meaning."""

from __future__ import annotations

import pytest
from reference.command_line import call

from stellarscale.config import load_job
from stellarscale.errors import ConfigError
from stellarscale.products.keys import job_keys, keys_text, other_products, product_of


@pytest.mark.parametrize("product", ["sages", "laspm", "acf"])
def test_every_key_says_what_it_means(product):
    assert [key.name for key in job_keys("", product) if not key.description] == []


def test_a_key_is_told_with_kind_and_default():
    [key] = job_keys("training.forest.max_depth")
    assert (key.kind, key.default) == ("integer | null", "17")
    assert "training.forest.max_depth  (integer | null, 17)" in keys_text([key])


def test_what_limits_a_value_is_not_told_as_its_kind():
    kinds = {key.name: key.kind for key in job_keys("", "acf")}
    assert kinds["errors.noise"] == "list of text"
    assert not any("typing." in kind for kind in kinds.values())


def test_names_and_lists_have_their_place():
    names = {key.name for key in job_keys()}
    assert {"features.bands.<name>.extinction", "match.chain[].radius_arcsec", "training.sources[].role"} <= names


@pytest.mark.parametrize("job", ["demo", "laspm"])
def test_the_keys_of_a_shipped_job_are_among_them(job):
    settings = load_job(job)
    keys = job_keys("", settings.product)
    names = {key.name.split(".")[0].removesuffix("[]").removesuffix("<name>") for key in keys}
    assert set(settings.model_dump(exclude_defaults=True)) <= names


def test_an_unknown_beginning_is_refused():
    with pytest.raises(ConfigError, match="training") as caught:
        job_keys("trainig")
    assert "another product" not in str(caught.value)


def test_a_key_of_another_product_alone_is_told_with_that_product():
    with pytest.raises(ConfigError, match=r"another product: --product acf\.$"):
        job_keys("stamps")


@pytest.mark.parametrize(
    ("prefix", "told"),
    [
        ("training", "Keys of the product sages. Other ones for --product acf."),
        ("", "Keys of the product sages. Other ones for --product laspm and --product acf."),
        ("match.primary", "Keys of the product sages. The same for --product acf."),
        ("product", "Keys of the product sages. Other ones for --product laspm and --product acf."),
        ("features", "Keys of the product sages. No other product has any that begin so."),
    ],
)
def test_it_is_said_whose_keys_are_shown_and_that_others_differ(prefix, told):
    assert other_products(prefix) == told


@pytest.mark.parametrize(("prefix", "product"), [("network", "acf"), ("training", "sages"), ("no such", "sages")])
def test_the_only_product_with_such_keys_is_shown(prefix, product):
    assert product_of(prefix) == product


def test_the_command_shows_the_keys_of_that_product():
    done = call("keys", "network")
    assert done.stderr.startswith("Keys of the product acf.")
    assert done.stdout == call("keys", "network", "--product", "acf").stdout


def test_the_name_of_a_product_is_no_key():
    with pytest.raises(ConfigError, match=r"it is a product: keys --product acf\.$"):
        job_keys("acf")


def test_the_command_says_so_where_no_product_is_given():
    bare, named = call("keys", "training"), call("keys", "training", "--product", "sages")
    assert bare.stderr.strip() == other_products("training")
    assert bare.stdout == named.stdout
    assert named.stderr == ""
