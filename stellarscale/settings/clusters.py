"""Star clusters with literature values, as ``schemas/clusters.yaml`` or a file of the user's lists them."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from stellarscale.errors import ConfigError
from stellarscale.resources import resource_directory
from stellarscale.schema import Frozen, parse_yaml


class StarCluster(Frozen):
    """Where a cluster is, how it moves, and the metallicity that the literature gives it."""

    ra: float = Field(ge=0, lt=360, description="degrees, ICRS")
    dec: float = Field(ge=-90, le=90)
    radius_deg: float = Field(gt=0, le=10, description="stars within are looked at")
    pmra: float = Field(description="mas/yr, with cos dec")
    pmdec: float
    fe_h: float
    reference: str = Field(description="of the metallicity")
    motion_reference: str = ""


class ClusterList(Frozen):
    """Clusters by name."""

    clusters: dict[str, StarCluster] = Field(min_length=1)


def load_clusters(file: str | None) -> dict[str, StarCluster]:
    """Read a list of clusters, the shipped one when no file is named.

    Raises
    ------
    ConfigError
        If the file does not exist or does not hold a valid list.
    """
    path = Path(file) if file is not None else resource_directory("schemas") / "clusters.yaml"
    if not path.is_file():
        raise ConfigError("the list of star clusters does not exist", where=path)
    return parse_yaml(ClusterList, path.read_text(encoding="utf-8"), where=str(path)).clusters
