"""Files that are there completely or not at all."""

from __future__ import annotations

import pytest

from stellarscale.models.whole_file import whole_file


def test_a_file_is_replaced_whole(tmp_path):
    target = tmp_path / "model.npz"
    target.write_text("old")
    with whole_file(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
        assert temporary.parent == tmp_path
        assert (temporary.name[0], temporary.suffix) == (".", ".stellarscale-part")
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]


def test_what_was_there_stays_when_writing_fails(tmp_path):
    target = tmp_path / "model.npz"
    target.write_text("old")

    def interrupted():
        with whole_file(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]
