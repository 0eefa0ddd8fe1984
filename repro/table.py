"""A finished table: numbers and intervals from the artefacts, as the JSON that others read."""

from numbers import Number

import numpy as np
import pandas as pd

import tables.paper
from c3l.store import Store
from repro.columns import COLUMNS, Column
from repro.profile import Profile
from repro.recipe import Cells, Runs, stages
from repro.runner import everything
from repro.statistics import bootstrap

INTERVAL = (
    "95% percentile intervals, bootstrap clustered by image over questions, data seeds and tuning "
    "seeds, {resamples} resamples"
)


def finished(
    name: str,
    rows: Cells,
    profile: Profile,
    seeds: list[int],
    store: Store,
) -> dict:
    """The table of DESIGN's form, from artefacts that are all there.

    Beyond the fields named there: `made` and `core_seconds` (the date of the newest artefact, the
    time all of them took), `versions`, and for each cell `extra`: the value of every run as
    [data seed][tuning seed], the share of unreadable answers, and the means of what the benchmark
    reports beside its number.
    """
    paper = tables.paper.load()[name]
    found = (store.manifest(stage) for stage in everything(stages(rows)).values())
    manifests = [manifest for manifest in found if manifest]
    return {
        "table": name,
        "title": paper.title,
        "profile": profile.name,
        "seeds": seeds,
        "tuning_seeds": profile.sizes.tuning_seeds,
        "commit": ", ".join(sorted({manifest["commit"] for manifest in manifests})),
        "interval": INTERVAL.format(resamples=profile.resamples),
        "units": {c: COLUMNS[c].unit for row in rows.values() for c in row},
        "made": max(manifest["made"] for manifest in manifests),
        "core_seconds": round(sum(manifest["seconds"] for manifest in manifests), 1),
        "versions": manifests[-1]["versions"],
        "rows": [
            {
                "label": label,
                "cells": {
                    column: _cell(runs, COLUMNS[column], paper.cell(label, column), profile, store)
                    for column, runs in cells.items()
                },
            }
            for label, cells in rows.items()
        ],
    }


def _cell(runs: Runs, column: Column, paper: float | None, profile: Profile, store: Store) -> dict:
    results = [[store.manifest(stage)["facts"] for stage in some] for some in runs]
    flat = [result for some in results for result in some]
    reasons = list(dict.fromkeys(r["unscored"] for r in flat if r.get("unscored")))
    cell = {
        "value": None,
        "interval": None,
        "n": 0,
        "paper": paper,
        "metric": next((r["metric"] for r in flat if "metric" in r), None),
        "judge": None,
        "artefacts": [stage.key for some in runs for stage in some],
        "unscored": "; ".join(reasons) or None,
        "extra": {},
    }
    if reasons:
        return cell
    estimate = bootstrap(
        _counts(runs, column, store), column.statistic, resamples=profile.resamples
    )
    values = [[result["value"] for result in some] for some in results]
    if abs(np.mean(values) - estimate.value) > 1e-6:
        raise RuntimeError(f"the bootstrap's {cell['metric']} is not that of the artefacts {runs}")
    means = _mean([r["extra"] | {k: r[k] for k in ("unreadable",) if k in r} for r in flat])
    return cell | {
        "value": round(estimate.value, 4),
        "interval": [round(estimate.low, 4), round(estimate.high, 4)],
        "n": min(result["n"] for result in flat),
        "extra": {"values": values} | means,
    }


def _counts(runs: Runs, column: Column, store: Store) -> np.ndarray:
    """[data seeds, tuning seeds, images, ...] of all the runs, over the images of any."""
    frames = [
        [pd.read_parquet(store.path(stage) / "samples.parquet") for stage in some] for some in runs
    ]
    images = pd.Index(sorted({i for some in frames for frame in some for i in frame["image_id"]}))
    return np.array([[column.counts(frame, images) for frame in some] for some in frames])


def _mean(values: list[dict]) -> dict:
    """The means of the numbers in nested records; what is no number is left out."""
    means = {}
    for key in values[0]:
        some = [value[key] for value in values if key in value]
        if isinstance(some[0], dict):
            means[key] = _mean(some)
        elif isinstance(some[0], Number):
            means[key] = round(float(np.mean(some)), 4)
    return means
