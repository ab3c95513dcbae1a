"""Progress: a bar where standard error is a terminal, lines with the name and the figures where it is not."""

from __future__ import annotations

import re
import sys
import time

import pytest

from stellarscale.engine import progress
from stellarscale.engine.progress import Progress


def test_a_stage_is_one_line_when_it_is_done(capsys):
    shown = Progress()
    with shown.stage("gaia read", total=3, done=1):
        shown.advance(1000)
        shown.advance(500)
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(r"gaia read: 3 of 3 tasks, 1,500 rows in \d+\.\d s, [\d,]+ rows/s\n", said.err)


def test_a_long_stage_is_told_when_it_begins_and_on_its_way(capsys, monkeypatch):
    monkeypatch.setattr(progress, "FIRST_LINE_S", 0.01)
    monkeypatch.setattr(progress, "NEXT_LINE_S", 0.0)
    shown = Progress()
    with shown.stage("models grow", total=4, done=3, counts="trees"):
        time.sleep(0.2)
        shown.advance(7)
    first, way, last = capsys.readouterr().err.splitlines()
    assert first == "models grow: started, 4 tasks, 3 done before"
    assert way.startswith("models grow: 4 of 4 tasks, 7 trees in ")
    assert last.startswith("models grow: 4 of 4 tasks, 7 trees in ")


def test_a_stage_that_stops_says_so(capsys):
    shown = Progress()
    with pytest.raises(KeyboardInterrupt), shown.stage("gaia write", total=3, done=0):
        raise KeyboardInterrupt
    assert capsys.readouterr().err.startswith("gaia write: 0 of 3 tasks")
    shown.advance(1)  # of no stage: nothing to show, no error
    assert capsys.readouterr().err == ""


def test_a_terminal_has_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shown = Progress()
    with shown.stage("gaia read", total=1, done=0):
        shown.advance(1000)
    said = capsys.readouterr().err
    assert "gaia read: 100%" in said
    assert "1,000 rows" in said


def test_not_enabled_is_silent(capsys):
    shown = Progress(enabled=False)
    with shown.stage("gaia read", total=1, done=0):
        shown.advance(1)
    assert capsys.readouterr().err == ""
