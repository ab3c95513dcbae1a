"""Settings of the training: labels and their sources, forests, errors, tuning, other methods."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stellarscale.schema import Frozen, parse_mapping
from stellarscale.settings.matching import MatchStep
from stellarscale.settings.methods import ESTIMATOR_PACKAGES, NetworkOptions, PolynomialOptions


class Label(Frozen):
    """A stellar parameter to learn: its columns in the label catalogue, and the cut on its error."""

    column: str = Field(description="column of the matched table, prefix included")
    error: str | None = Field(None, description="column of its error")
    max_error: float | None = Field(None, gt=0, description="labels with a larger error, or none, do not count")
    range: tuple[float, float] | None = Field(None, description="values outside, offset applied, are no labels")
    offset: float = Field(0.0, description="added to the values, to bring them to the scale of the training labels")
    unit: str = Field("", description="unit of the label, for reports and models")

    @model_validator(mode="after")
    def _error_named(self) -> Label:
        if self.max_error is not None and self.error is None:
            raise ValueError("max_error needs `error`, the column of the errors that it cuts")
        return self


class LabelSource(Frozen):
    """A further catalogue of labels and what its stars are for (paper I, section 2.3).

    ``extend`` adds stars to the training that no earlier source has; ``test`` stars never train.
    """

    role: Literal["extend", "test"] = Field(description="what its stars are for")
    match: MatchStep
    labels: dict[str, Label] = Field(min_length=1)


class Errors(Frozen):
    """How the errors of a star are calibrated, and when a star counts as outside of the training sample."""

    magnitude: str | None = Field(None, description="feature, e.g. `g_0`, on which the calibration depends")
    noise: tuple[Annotated[str, Field(pattern=r"^\w+(/\w+)?(>\d*\.?\d+)?$")], ...] = Field(
        (),
        description="columns that the errors grow with, in quadrature, e.g. errors of magnitudes; `a/b` is a ratio, "
        "`a>0.05` what a column has beyond 0.05",
    )
    magnitude_bins: int = Field(10, ge=1, description="most cells of the calibration in magnitude")
    label_bins: int = Field(6, ge=1, description="most cells of the calibration in the predicted label")
    min_stars: int = Field(200, ge=20, description="cells of the calibration with fewer stars borrow from all")
    novelty: tuple[str, ...] = Field((), description="inputs that tell a star outside of the sample; all if empty")
    novelty_quantile: float = Field(0.999, gt=0.5, lt=1, description="share of training stars that count as inside")


class Tuning(Frozen):
    """A scan of hyper-parameters by out-of-bag score (paper I, Fig. 4), each forest part of a Dask task.

    The first part goes over ``n_estimators`` and ``max_features`` at the depth of the job's forest, the second over
    ``max_depth`` with the other two as the job's forest has them.
    """

    models: tuple[str, ...] = Field((), description="names of models, e.g. `fe_h_dwarf`; all if empty")
    n_estimators: tuple[int, ...] = Field((50, 100, 200, 300, 500, 750), min_length=1, description="trees")
    max_features: tuple[float | None, ...] = Field(
        (0.33, 0.5, 0.75, None), min_length=1, description="shares tried at each split; null: all"
    )
    max_depth: tuple[int, ...] = Field(
        (5, 8, 11, 13, 15, 17, 19, 22, 25), min_length=1, description="depths of the second part"
    )
    repeats: int = Field(3, ge=1, description="forests of different seeds per depth")
    max_stars: int = Field(50_000, ge=100, description="training stars, drawn at random, that the scan uses")
    tolerance: float = Field(
        0.001, ge=0, lt=1, description="share of the best score that fewer trees may lose to be preferred"
    )

    @model_validator(mode="after")
    def _in_range(self) -> Tuning:
        if min(self.n_estimators + self.max_depth) < 1:
            raise ValueError("n_estimators and max_depth must be 1 or more")
        if not all(share is None or 0 < share <= 1 for share in self.max_features):
            raise ValueError("max_features must be null, or above 0 and up to 1")
        return self


class Comparator(Frozen):
    """Another method trained and tested on the same split as the forests."""

    name: str = Field(pattern=r"^\w[\w.+-]*$", description="what the report calls it")
    kind: Literal["polynomial", "network", "extra_trees", "xgboost", "estimator"] = Field(description="the method")
    estimator: str | None = Field(
        None, description="with kind `estimator`: e.g. `sklearn.neighbors.KNeighborsRegressor`"
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="polynomial: degree, ridge; network: losses, hidden, epochs, batch_size, learning_rate; "
        "the others: arguments of their classes in scikit-learn and XGBoost",
    )

    @model_validator(mode="after")
    def _estimator_named(self) -> Comparator:
        if (self.estimator is not None) != (self.kind == "estimator"):
            raise ValueError("give `estimator` with kind `estimator`, and only then")
        if self.estimator is not None and self.estimator.split(".")[0] not in ESTIMATOR_PACKAGES:
            raise ValueError(f"{self.estimator} is not a regressor of {', '.join(ESTIMATOR_PACKAGES)}")
        return self

    @model_validator(mode="after")
    def _options_known(self) -> Comparator:
        checked = {"polynomial": PolynomialOptions, "network": NetworkOptions}
        if self.kind in checked:
            parse_mapping(checked[self.kind], self.options, where=f"options of {self.name}")
        return self


class ForestSettings(Frozen):
    """Hyper-parameters of the forests (paper I, section 4)."""

    n_estimators: int = Field(300, ge=1, description="trees of a forest")
    max_features: float | None = Field(None, gt=0, le=1, description="share tried at each split; null: all")
    max_depth: int | None = Field(17, ge=1, description="deepest level of a tree; null: no limit")
    min_samples_leaf: int = Field(1, ge=1, description="fewest training stars in a leaf")
    backend: Literal["auto", "histogram", "sklearn", "sklearnex"] = Field(
        "auto", description="what grows the trees; auto: our histograms, or scikit-learn where features are missing"
    )


class ModelSpec(Frozen):
    """One forest: a label learned on the stars of some classes (all stars when empty)."""

    label: str = Field(description="parameter to learn")
    classes: tuple[str, ...] = Field((), description="classes of stars; all stars if empty")

    @property
    def name(self) -> str:
        """File stem of the model."""
        return "_".join([self.label, *self.classes])


class Pretrained(Frozen):
    """Models that another run has trained, to be used as they are: the job then trains none."""

    directory: str = Field(description="the `models` directory of that run, or a copy of its .npz files")
    digests: dict[str, str] = Field(
        default_factory=dict, description="model: SHA-256 that its file must have; not checked for the others"
    )


class Training(Frozen):
    """What is learned from which labels."""

    match: MatchStep | None = Field(None, description="how labels reach the stars; null: they are in the table")
    labels: dict[str, Label] = Field(description="parameters and where the main catalogue has them")
    sources: tuple[LabelSource, ...] = Field((), description="further label catalogues, in order of preference")
    inputs: tuple[str, ...] = Field(min_length=1, description="feature columns, in the order of the model")
    models: tuple[ModelSpec, ...] = Field(min_length=1)
    forest: ForestSettings = ForestSettings()
    errors: Errors = Errors()
    comparators: tuple[Comparator, ...] = ()
    tuning: Tuning | None = None
    test_fraction: float = Field(0.2, gt=0, lt=1, description="share of the training stars that is held out")
    pretrained: Pretrained | None = Field(None, description="models to use instead of training them")
    min_stars: int = Field(50, ge=2, description="fewer training stars than this for a model is an error")
    compare_with_sklearn: bool = Field(False, description="fit plain scikit-learn on the same split and report it")

    @property
    def decisive(self) -> dict[str, Any]:
        """The settings that decide what models say; scans and other methods come and go without another training."""
        return self.model_dump(mode="json", exclude={"tuning", "comparators", "pretrained"})

    @model_validator(mode="after")
    def _labels_exist(self) -> Training:
        unknown = sorted({model.label for model in self.models} - set(self.labels))
        if unknown:
            raise ValueError(f"models of undeclared labels: {', '.join(unknown)}")
        strange = sorted({label for source in self.sources for label in source.labels} - set(self.labels))
        if strange:
            raise ValueError(f"label sources give labels that training.labels does not declare: {', '.join(strange)}")
        catalogs = [source.match.catalog for source in self.sources] + ([self.match.catalog] if self.match else [])
        if len(set(catalogs)) < len(catalogs):
            raise ValueError(f"a catalogue is named by two label sources: {', '.join(sorted(catalogs))}")
        if self.pretrained and (self.tuning or self.comparators):
            raise ValueError("tuning and comparators need stars to train on: leave them out, or leave out `pretrained`")
        if set(self.errors.novelty) - set(self.inputs):
            raise ValueError("errors.novelty names columns that are not among the inputs")
        tuned = set(self.tuning.models if self.tuning else ()) - {model.name for model in self.models}
        if tuned:
            raise ValueError(f"tuning names models that the job does not have: {', '.join(sorted(tuned))}")
        names = [comparator.name for comparator in self.comparators]
        if len(set(names)) < len(names):
            raise ValueError(f"two comparators have one name: {', '.join(names)}")
        for label in self.labels:
            served = [name for model in self.models if model.label == label for name in model.classes or ("all",)]
            if len(set(served)) < len(served) or ("all" in served and len(served) > 1):
                raise ValueError(f"two models give {label} for the same class: {', '.join(served)}")
        return self
