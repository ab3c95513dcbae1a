"""Settings of the methods that are compared with the forests; the other methods take their library's own arguments."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stellarscale.schema import Frozen

Loss = Literal["mse", "l1", "smooth_l1", "log_cosh"]

ESTIMATOR_PACKAGES = ("sklearn", "xgboost", "lightgbm")
"""Packages whose regressors a job may name: a job file must not be able to run anything else."""


class PolynomialOptions(Frozen):
    """A polynomial in the standardised inputs, cross terms included (as Huang et al. 2022, ApJ 925, 164)."""

    degree: int = Field(3, ge=1, le=6, description="highest total power of a term")
    ridge: float = Field(1e-6, gt=0, description="penalty on the squared coefficients, per star; inputs are collinear")


class NetworkOptions(Frozen):
    """A fully connected network; two hidden layers and the output make the three layers of paper I, section 4."""

    losses: tuple[Loss, ...] = Field(
        ("mse", "l1", "smooth_l1", "log_cosh"), min_length=1, description="a network is trained for each"
    )
    hidden: tuple[int, ...] = Field((128, 64), min_length=1, description="units of the hidden layers")
    epochs: int = Field(60, ge=1, description="passes over the training stars")
    batch_size: int = Field(512, ge=1, description="stars per step")
    learning_rate: float = Field(1e-3, gt=0, description="of Adam at the start; falls to zero along a cosine")
