"""Star clusters as a test of the metallicities (paper I, section 3.5 and Fig. 11)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from stellarscale.catalog.reader import StoredCatalog, read_ranges
from stellarscale.catalog.subset import Subset
from stellarscale.partition.clusters import STAGES, Members, cluster_members
from stellarscale.partition.features import floats
from stellarscale.report.content import ClusterResult
from stellarscale.settings.clusters import StarCluster, load_clusters
from stellarscale.settings.evaluation import ClusterSettings


def compare_clusters(stored: StoredCatalog, settings: ClusterSettings) -> tuple[list[ClusterResult], pa.Table | None]:
    """Measure every cluster of the list; only the cones around them are read.

    Returns
    -------
    list of ClusterResult
        In the order of the list; a cluster that cannot be measured says why.
    Table or None
        The comoving stars of all clusters, with what each passed; None where there are none.
    """
    results, tables = [], []
    for name, cluster in load_clusters(settings.file).items():
        members = cluster_members(_around(stored, cluster, settings), cluster, settings)
        results.append(_result(name, cluster, members, settings))
        comoving = members.stars.filter(members.stars["comoving"])
        tables.append(comoving.append_column("cluster", pa.array([name] * comoving.num_rows, pa.string())))
    found = pa.concat_tables(tables)
    return results, found if found.num_rows else None


def _around(stored: StoredCatalog, cluster: StarCluster, settings: ClusterSettings) -> pa.Table:
    cone = Subset("cone", (cluster.ra, cluster.dec, cluster.radius_deg))
    ra, dec = stored.properties.ra, stored.properties.dec
    star = stored.properties.extra.get("stellarscale_id")
    columns = list(dict.fromkeys([*([star] if star else []), ra, dec, *settings.needed]))
    ranges = cone.ranges()
    assert ranges is not None, "a cone covers ranges of the sky"
    table = read_ranges(stored, ranges, columns=columns)
    return table.filter(pa.array(cone.mask(table, ra, dec)))


def _result(name: str, cluster: StarCluster, members: Members, settings: ClusterSettings) -> ClusterResult:
    stars, names = members.stars, settings.columns
    precise, comoving = stars["precise_motion"].to_numpy(), stars["comoving"].to_numpy()
    motion = np.stack([floats(stars, names.pmra), floats(stars, names.pmdec)], axis=1)
    on_ridge = stars["on_ridge"].to_numpy().astype(np.float64)
    cmd = np.stack([floats(stars, names.colour), floats(stars, names.magnitude), on_ridge], axis=1)
    return ClusterResult(
        name=name,
        label=settings.label,
        literature=cluster.fe_h,
        reference=cluster.reference,
        status=_status(members, settings),
        counts={"in_cone": stars.num_rows, **{stage: members.count(stage) for stage in STAGES}},
        values=floats(stars, settings.label)[stars["used"].to_numpy()],
        motion=motion[precise],
        members=comoving[precise],
        cmd=cmd[comoving & np.isfinite(cmd).all(axis=1)],
    )


def _status(members: Members, settings: ClusterSettings) -> str:
    if members.stars.num_rows == 0:
        return "outside of the footprint"
    if members.fit is None:
        return "too few stars with precise motions"
    if not members.fit.converged:
        return "no over-density of motions"
    if members.count("used") < settings.min_members:
        return "too few members"
    return "measured"
