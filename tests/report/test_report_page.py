"""The page: every section and number is there, nothing is fetched, nothing from outside is read as HTML."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest

from stellarscale.report import page
from stellarscale.report.content import Evaluation, Importance, ReportContent, SkyCounts, StepRow
from stellarscale.report.labels import (
    magnitude_in_text,
    model_in_plot,
    model_in_text,
    model_on_page,
    reference_name,
    short,
)
from stellarscale.report.numbers import summarise
from stellarscale.report.page import render, write_report
from stellarscale.report.tables import flag_rows

SECTIONS = ("summary", "steps", "evaluation", "importances", "stars", "sky", "flags", "reproduce")
EVIL = '<script>alert("x")</script>'
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Reader(HTMLParser):
    """Checks that tags nest, and keeps tags, attributes and text."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.ids, self.links, self.text = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append((tag, values))
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values[name] for name in ("href", "src") if name in values]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def evaluation(n=300, **options):
    rng = np.random.default_rng(n)
    truth = rng.uniform(-2, 0.5, n)
    return Evaluation("fe_h dwarf", "fe_h", "dex", "held-out labels", truth + rng.normal(0, 0.1, n), truth, **options)


@pytest.fixture(scope="module")
def content():
    rng = np.random.default_rng(1)
    stars = pa.table(
        {
            "teff": rng.normal(5500, 500, 200),
            "logg": rng.normal(4.2, 0.5, 200),
            "fe_h": rng.normal(-0.4, 0.3, 200),
            "bp_rp_0": rng.normal(0.9, 0.2, 200),
            "m_g_0": rng.normal(4.5, 1, 200),
            "class": pa.array(np.ones(200, np.int8)),
        }
    )
    return ReportContent(
        "A run",
        "of <simulated> stars",
        job_text="name: sages\nrows: '<1000>'\n",
        versions={"stellarscale": "0.1.0"},
        digests={"job": "ab" * 32},
        steps=(
            StepRow("gaia", "import", 1_234_567, 1_234_000, 567, 12, 30.0, None, 512.0, 3, "lost a worker"),
            StepRow("match", "crossmatch", 1_234_000, 900_000, 0, 12, 60.0),
        ),
        evaluations=(evaluation(comparisons={"scikit-learn robust sigma": 0.2119}, oob_score=0.913, n_train=4321),),
        importances=(Importance("fe_h dwarf", ("u_v_0", "ebv"), (0.7, 0.3)),),
        stars=stars,
        class_names={1: "dwarf"},
        sky=SkyCounts(1, np.arange(48), np.full(48, 18_750)),
        flag_counts={"HIGH_EXTINCTION": 4500},
        notes=("Ran on the CPU.",),
    )


@pytest.fixture(scope="module")
def html(content):
    return render(content)


def test_every_section_is_there_and_linked(html):
    reader = read(html)
    assert [name for name in reader.ids if name in SECTIONS] == list(SECTIONS)
    assert len(reader.ids) == len(set(reader.ids))
    anchors = [link[1:] for link in reader.links if link.startswith("#")]
    assert anchors == list(SECTIONS)


def test_every_number_is_there(html, content):
    text = " ".join(read(html).text)
    figures = summarise(content.evaluations[0])
    shown = [
        "1,234,567",
        "567",
        "900,000",
        "4,321",
        "0.913",
        "0.2119",
        "HIGH_EXTINCTION",
        "4,500",
        "lost a worker",
    ]
    shown += [short(value) for value in (figures.bias, figures.robust_sigma, figures.gaussian_sigma, figures.rmse)]
    shown += [
        "0.1.0",
        "ab" * 32,
        "rows: '<1000>'",
        "Ran on the CPU.",
        "of <simulated> stars",
        "512",
        "20,567",  # rows per second
    ]
    missing = [number for number in shown if number not in text]
    assert missing == []
    assert "0.500 %" in text  # 4500 of 900000


def test_flags_that_no_row_has_fold_away():
    html = flag_rows({"BLEND": 3, "OUT_OF_RANGE": 0, "MISSING_PIXELS": 0}, 300)
    shown, folded = html.split("<details>")
    assert ("BLEND" in shown, "1.00 %" in shown) == (True, True)
    assert folded.startswith("<summary>2 flags that no row has</summary>")
    assert ("OUT_OF_RANGE" in folded, "BLEND" in folded) == (True, False)
    assert "<details>" not in flag_rows({"BLEND": 3}, 300)
    assert flag_rows({"BLEND": 0}, 300).startswith("<p>No row has a flag.</p>")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (model_on_page("fe_h dwarf"), "[Fe/H] dwarf"),
        (model_on_page("<b> all"), "&lt;b&gt; all"),
        (model_in_text("logg"), "log g"),
        (model_in_text("forest of all"), "forest of all"),
        (model_in_plot("teff giant"), r"$T_{\rm eff}$ giant"),
        (model_in_plot("$a$ giant"), r"\$a\$ giant"),
        (reference_name("lsp3"), "LSP3"),
        (reference_name("held-out labels"), "held-out labels"),
        (magnitude_in_text("smss_g_mag"), "SkyMapper g"),
        (magnitude_in_text("g_mag"), "G"),
        (magnitude_in_text("snr"), "snr"),
    ],
)
def test_names_are_those_of_the_field(found, expected):
    assert found == expected


def test_what_another_run_made_takes_no_time_of_this_one():
    made = StepRow("import gaia", "import", 90, 80, 10, 12, resumed_partitions=12, made_before=True)
    steps = (made, StepRow("train", "train", 70, 70, 0, 5, 3.0), StepRow("rows", "training rows", 9, 7, left_out=2))
    text = " ".join(" ".join(read(render(ReportContent("Run", steps=steps, models=5))).text).split())
    for shown in ("3 s in 2 steps, 1 more made by an earlier run", "slowest step: train 10 rows rejected by imports"):
        assert shown in text
    assert "2 rows left out by cuts, over all steps 5 models" in text
    assert "import gaia 90 80 10 0 12 12 – –" in text


def test_the_diagrams_say_whether_they_show_all_rows(content, html):
    assert "Drawn from a sample of 200 rows" in html
    assert "Drawn from all 200 rows" in render(replace(content, rows_total=200))


def test_nothing_is_fetched_and_no_script_runs(html):
    assert not re.search(r"https?:|//[a-z]", re.sub(r"base64,[^\"]+", "", html))
    reader = read(html)
    assert not {tag for tag, _ in reader.tags} & {"script", "link", "iframe", "object"}
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in reader.links)
    assert "@import" not in html
    assert "url(" not in html


def test_pictures_are_whole_and_described(html):
    pictures = [values for tag, values in read(html).tags if tag == "img"]
    assert len(pictures) == 8
    for values in pictures:
        data = base64.b64decode(values["src"].split(",", 1)[1], validate=True)
        assert data.startswith(b"\x89PNG")
        assert data.endswith(b"IEND\xaeB`\x82")
        assert values["alt"]
        assert int(values["width"]) > 300


def test_the_page_is_not_too_large(html):
    assert len(html) < 2_000_000


def test_what_comes_from_outside_is_escaped():
    step = StepRow(EVIL, EVIL, 1, 1, note=EVIL)
    nasty = ReportContent(
        EVIL, EVIL, EVIL, {EVIL: EVIL}, {EVIL: EVIL}, (step,), flag_counts={EVIL: 1}, notes=(EVIL,),
        evaluations=(Evaluation(EVIL, EVIL, EVIL, EVIL, np.zeros(2), np.zeros(2), comparisons={EVIL: 1.0}),),
        importances=(Importance(EVIL, ("$x", "a_b"), (0.5, 0.5)),),
    )  # fmt: skip
    page_text = render(nasty)
    assert "<script" not in page_text
    assert "alert(&quot;x&quot;)" in page_text
    read(page_text)


def test_dollars_are_no_formulas(content):
    odd = replace(
        content,
        stars=None,
        sky=None,
        steps=(StepRow("a$b$", "x$_", 1, 1),),
        evaluations=(Evaluation("$m$_", "lab$el", "d$x", "tru$th", np.zeros(30), np.arange(30.0)),),
        importances=(Importance("$", ("$^",), (1.0,)),),
    )
    page_text = render(odd)
    read(page_text)
    assert "a$b$" in page_text


def test_an_empty_run_has_every_section_but_that_of_diagrams_it_does_not_make():
    reader = read(render(ReportContent("Nothing")))
    assert [name for name in reader.ids if name in SECTIONS] == [name for name in SECTIONS if name != "stars"]
    assert not [tag for tag, _ in reader.tags if tag == "img"]


@pytest.mark.parametrize("n", [0, 1, 3])
def test_tiny_evaluations(n):
    reader = read(render(ReportContent("Tiny", evaluations=(evaluation(n),))))
    assert len([tag for tag, _ in reader.tags if tag == "img"]) == (1 if n else 0)
    if n:
        assert "no Gaussian could be fitted" in " ".join(reader.text)


def test_tables_leave_out_columns_of_dashes():
    plain = " ".join(read(render(ReportContent("Run", evaluations=(evaluation(30),)))).text)
    assert "OOB" not in plain
    assert "Within" not in plain
    assert "Robust σ" in plain


def test_an_empty_sample_and_an_empty_sky():
    empty = pa.table({"teff": pa.array([], pa.float32()), "logg": pa.array([], pa.float32())})
    none = SkyCounts(3, np.empty(0, np.int64), np.empty(0, np.int64))
    text = " ".join(read(render(ReportContent("Run", stars=empty, sky=none))).text)
    assert "No stars to draw" in text
    assert "No sky counts" in text


def test_same_content_same_page(content, html):
    assert render(content) == html


def test_the_file_is_replaced_whole(tmp_path, monkeypatch):
    path = tmp_path / "run" / "report.html"
    assert write_report(ReportContent("First"), path) == path
    assert "First" in path.read_text(encoding="utf-8")
    assert path.stat().st_mode & 0o777 == 0o644

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(page.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(ReportContent("Second"), path)
    assert "First" in path.read_text(encoding="utf-8")
    assert [child.name for child in path.parent.iterdir()] == ["report.html"]


def test_unequal_arrays_write_nothing(tmp_path):
    bad = Evaluation("m", "teff", "K", "truth", np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match="differ in length"):
        write_report(ReportContent("Bad", evaluations=(bad,)), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []
