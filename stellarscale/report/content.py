"""What a report is made of: plain frozen records that a product fills in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True)
class StepRow:
    """One step of a run.

    Attributes
    ----------
    name, kind : str
        E.g. ``gaia`` and ``import``.
    rows_in, rows_out, rejected : int
        Rows read, written, and written to the list of rejects of an import.
    partitions, resumed_partitions : int
        Partitions of the step, and those among them that an earlier run had finished.
    seconds : float
        Wall-clock time.
    rows_per_second : float, optional
        Left out: rows_in over seconds, when nothing was resumed.
    peak_memory_mb : float, optional
        Largest resident memory of any worker, in MB of 10^6 bytes.
    note : str
        Anything a reader should know; empty when all is plain.
    left_out : int
        Rows that a cut of the job leaves out: they are in order, and not wanted.
    made_before : bool
        Whether another run had made all of it: it took no time of this one.
    """

    name: str
    kind: str
    rows_in: int
    rows_out: int
    rejected: int = 0
    partitions: int = 0
    seconds: float = 0.0
    rows_per_second: float | None = None
    peak_memory_mb: float | None = None
    resumed_partitions: int = 0
    note: str = ""
    left_out: int = 0
    made_before: bool = False

    @property
    def title(self) -> str:
        """Name and kind; the name alone where the kind says no more."""
        return self.name if self.name.startswith((self.kind, "match")) else f"{self.name} · {self.kind}"

    @property
    def rate(self) -> float | None:
        """Rows read per second; None when not known."""
        if self.rows_per_second is not None:
            return self.rows_per_second
        if self.seconds <= 0 or self.resumed_partitions or self.made_before:
            return None
        return self.rows_in / self.seconds


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Estimates of one model beside the values they should have.

    Attributes
    ----------
    model, label, unit : str
        E.g. ``fe_h dwarf``, ``fe_h``, ``dex``.
    against : str
        What the estimates are compared with, e.g. ``held-out labels`` or ``truth``.
    predicted, truth : ndarray, shape (n,)
        Pairs with a missing (non-finite) member are counted and left out.
    error, error95 : ndarray, shape (n,), optional
        Half widths claimed for the intervals that hold the truth with 68.3 and 95 per cent.
    magnitude : ndarray, shape (n,), optional
        By which the coverage is looked at; ``magnitude_name`` says which it is.
    novel : ndarray of bool, shape (n,), optional
        Stars flagged as outside of the training sample.
    code : ndarray, shape (n,), optional
        Class codes, where stars of several classes are in one comparison.
    group : str
        Class of the stars, e.g. ``dwarf``; empty for all.
    kind : str
        ``labels``, ``truth`` or ``external``: the section of the page.
    comparisons : dict of str to float
        Other figures to show beside ours, e.g. ``{"scikit-learn robust sigma": 0.2119}``, in the same unit.
    oob_score : float, optional
        Out-of-bag R^2 of the forest.
    n_train : int, optional
        Stars the model was trained on.
    note : str
        Anything a reader should know, e.g. that the stars are a sample.
    """

    model: str
    label: str
    unit: str
    against: str
    predicted: NDArray[np.floating]
    truth: NDArray[np.floating]
    error: NDArray[np.floating] | None = None
    comparisons: dict[str, float] = field(default_factory=dict)
    oob_score: float | None = None
    n_train: int | None = None
    error95: NDArray[np.floating] | None = None
    magnitude: NDArray[np.floating] | None = None
    magnitude_name: str = ""
    novel: NDArray[np.bool_] | None = None
    code: NDArray[np.floating] | None = None
    group: str = ""
    kind: str = "labels"
    note: str = ""


@dataclass(frozen=True, eq=False)
class SampleStars:
    """The stars of one model (paper I, Figs 2 and 3).

    Attributes
    ----------
    model, label, unit : str
    value : ndarray, shape (n,)
        Labels.
    kinds : tuple of (str, str)
        Catalogues of labels, each with what its stars are for: ``train``, ``held_out``, ``test:<catalogue>``.
    kind : ndarray of int, shape (n,)
        Index into ``kinds`` of each star.
    colour, absolute : ndarray, shape (n,), optional
        Dereddened colour and absolute magnitude, where the job has classes.
    roles : dict of str to int
        Stars of the model by role, those that are not drawn among them.
    """

    model: str
    label: str
    unit: str
    value: NDArray[np.floating]
    kinds: tuple[tuple[str, str], ...]
    kind: NDArray[np.integer]
    colour: NDArray[np.floating] | None = None
    absolute: NDArray[np.floating] | None = None
    roles: dict[str, int] = field(default_factory=dict)

    def trains(self) -> NDArray[np.bool_]:
        """Which stars train."""
        return np.array([role == "train" for _, role in self.kinds], dtype=bool)[self.kind]


@dataclass(frozen=True, eq=False)
class ClusterResult:
    """One star cluster (paper I, Fig. 11).

    Attributes
    ----------
    name, label, reference : str
        ``reference`` is where the literature value is from.
    literature : float
        Value of the label in the literature.
    status : str
        ``measured``, or why not, e.g. ``outside of the footprint``.
    counts : dict of str to int
        Stars left after each stage of the selection.
    values : ndarray, shape (n,)
        Label of the members that are used.
    motion, members : ndarray of float, shape (m, 2); ndarray of bool, shape (m,)
        Proper motions (mas/yr) of the stars with precise ones, and which of them are members.
    cmd : ndarray, shape (k, 3)
        Colour, magnitude (mag) of the comoving stars, and 1 for those on the ridge line.
    """

    name: str
    label: str
    literature: float
    reference: str
    status: str
    counts: dict[str, int]
    values: NDArray[np.float64]
    motion: NDArray[np.float64]
    members: NDArray[np.bool_]
    cmd: NDArray[np.float64]

    @property
    def measured(self) -> bool:
        """Whether there are enough members for a value."""
        return self.status == "measured"


@dataclass(frozen=True, eq=False)
class ClassHistograms:
    """Histograms of a label by class over a whole catalogue (paper I, Fig. 12).

    ``counts`` has a row per name, all stars first, and a column per bin; ``below`` holds, per name, the stars with
    values at or below each limit, and ``total`` all stars with a value. Values beyond the outer
    edges are counted in ``total`` only.
    """

    label: str
    unit: str
    names: tuple[str, ...]
    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    total: NDArray[np.int64]
    limits: tuple[float, ...]
    below: NDArray[np.int64]


@dataclass(frozen=True)
class ExtraSection:
    """A section that a product adds to the page.

    ``html`` is finished HTML; ``figures`` are drawn below it, each with alternative text and caption (both plain
    text); ``numbers`` go into the JSON under ``key``.
    """

    key: str
    title: str
    html: str = ""
    figures: tuple[tuple[Any, str, str], ...] = ()
    numbers: Any = None


@dataclass(frozen=True)
class Importance:
    """How much each input matters to one model (fractions that sum to one)."""

    model: str
    names: tuple[str, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class SkyCounts:
    """Rows per NESTED HEALPix pixel of one order; pixels that are not listed hold none."""

    order: int
    ipix: NDArray[np.int64]
    counts: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ReportContent:
    """Everything one page shows.

    Attributes
    ----------
    title, subtitle, job_text : str
        ``job_text`` is the YAML job as run.
    versions, digests : dict of str to str
        Of packages, and of the job, the models and the inputs.
    stars : pyarrow.Table, optional
        A sample of product rows. Used when present: ``teff`` (K), ``logg``, ``fe_h`` or ``m_h``, the columns
        named by ``colour_column`` and ``absolute_column`` (mag), ``class`` or ``class_code`` (int code).
    sky : SkyCounts, optional
        Counts of the whole catalogue.
    flag_counts : dict of str to int
        Rows of the catalogue that carry each quality flag, by flag name.
    models : int, optional
        Models of the job; None for a product that trains none.
    truth_intervals : str
        What the claimed intervals are, where they are compared with the truth.
    rows_total : int, optional
        Rows of the catalogue; left out: the sum of ``sky``, then the rows of the last step.
    """

    title: str
    subtitle: str = ""
    job_text: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    steps: tuple[StepRow, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    truth_intervals: str = (
        "The intervals are for the label on the scale of the training catalogue, the noise of its labels included: a "
        "truth without that noise lies inside more often than 68 % and 95 %, unless the scales differ."
    )
    importances: tuple[Importance, ...] = ()
    samples: tuple[SampleStars, ...] = ()
    models: int | None = 0
    clusters: tuple[ClusterResult, ...] = ()
    metallicity: ClassHistograms | None = None
    extras: tuple[ExtraSection, ...] = ()
    stars: pa.Table | None = None
    colour_column: str = "bp_rp_0"
    absolute_column: str = "m_g_0"
    magnitude_column: str = "g_mag"
    class_names: dict[int, str] = field(default_factory=dict)
    sky: SkyCounts | None = None
    flag_counts: dict[str, int] = field(default_factory=dict)
    rows_total: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int | None:
        """Rows of the catalogue; None when nothing tells."""
        if self.rows_total is not None:
            return self.rows_total
        if self.sky is not None:
            return int(np.sum(self.sky.counts))
        return self.steps[-1].rows_out if self.steps else None
