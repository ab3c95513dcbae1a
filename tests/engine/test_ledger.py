from __future__ import annotations

import pytest

from stellarscale.engine import ledger as ledger_module
from stellarscale.engine.ledger import Ledger, fingerprint, open_ledger, write_json
from stellarscale.errors import CatalogError, RunError


def opened(out, digest="d1", **options):
    return open_ledger(out, step="match", digest=digest, about={"inputs": []}, **options)


def test_a_new_directory_is_claimed(tmp_path):
    ledger = opened(tmp_path / "out")
    assert ledger.run()["step"] == "match"
    assert ledger.finished is None
    ledger.finish({"rows": 3})
    assert opened(tmp_path / "out").finished == {"rows": 3}


def test_other_settings_are_refused_and_fresh_starts_over(tmp_path):
    out = tmp_path / "out"
    opened(out).finish({})
    (out / "data.parquet").touch()
    with pytest.raises(RunError, match=r"other settings.*--fresh"):
        opened(out, digest="d2")
    assert (out / "data.parquet").exists()
    again = opened(out, digest="d2", fresh=True)
    assert again.finished is None
    assert not (out / "data.parquet").exists()


@pytest.mark.parametrize("fresh", [False, True])
def test_a_directory_of_somebody_else_is_never_touched(tmp_path, fresh):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(CatalogError, match=r"already holds something else.*thesis\.tex"):
        opened(tmp_path, fresh=fresh)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_receipts_come_back_by_key(tmp_path):
    ledger = opened(tmp_path / "out")
    write_json(ledger.receipt_path("write", "3/17"), {"key": "3/17", "rows_out": 4})
    assert Ledger(tmp_path / "out").receipts("write") == {"3/17": {"key": "3/17", "rows_out": 4}}
    assert ledger.stages() == ["write"]


def test_fingerprint_changes_with_the_file(tmp_path):
    path = tmp_path / "a.fits"
    path.write_text("a")
    before = fingerprint(path)
    path.write_text("ab")
    assert fingerprint(path) != before


def test_update_starts_over_only_what_changed(tmp_path):
    about = {"settings": {"forest": {"depth": 17, "trees": 300}}}
    ledger = open_ledger(tmp_path / "x", step="train", digest="one", about=about)
    ledger.finish({"rows": 1})
    assert open_ledger(tmp_path / "x", step="train", digest="one", about=about, update=True).finished
    assert not open_ledger(tmp_path / "x", step="train", digest="two", about=about, update=True).finished


def test_a_changed_setting_is_told_by_its_own_name(tmp_path):
    def settings(depth: int) -> dict:
        return {"settings": {"forest": {"depth": depth, "text": "a long text that is the same in both " * 5}}}

    open_ledger(tmp_path / "x", step="train", digest="one", about=settings(17))
    with pytest.raises(RunError, match=r"forest\.depth was 17, now 12") as caught:
        open_ledger(tmp_path / "x", step="train", digest="two", about=settings(12))
    assert "long text" not in str(caught.value)


def test_a_removal_that_was_cut_short_leaves_the_directory_free(tmp_path, monkeypatch):
    out = tmp_path / "x"
    open_ledger(out, step="train", digest="one", about={}).finish({"rows": 1})
    (out / "data").write_text("1")
    removing = ledger_module.shutil.rmtree

    def killed(path):
        next(path.rglob("run.json")).unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(ledger_module.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        open_ledger(out, step="train", digest="two", about={}, update=True)
    monkeypatch.setattr(ledger_module.shutil, "rmtree", removing)
    assert not open_ledger(out, step="train", digest="two", about={}).finished
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
