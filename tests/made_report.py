"""A folder of artifacts as the contracts say, with chosen numbers: what the report is tested on."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from made_experiment import state_scores

from extract.settings import read_settings
from models.evaluation.comparisons import (
    AGAINST_OTHERS,
    AGAINST_PLACE,
    COMPARISON_COLUMNS,
    WINNER_COLUMNS,
)
from models.store.runs import run_folder, write_run
from models.store.score_tables import split_cut
from reports.build import build_content, build_report
from reports.data.collect import collect
from reports.page.page import render_page
from reports.settings import ReportSettings

EVIL = "<script>alert(1)</script>"
CUTS = ("vgg16/block5_pool:avg", "vgg16/block4_pool:avg")
BLIND = (("mean", -0.01), ("location", 0.1234))


class Experiment:
    """20 areas of 3 tiles; `ridge` on the first cut is the best of every target, with R² 0.51 on
    the split held out farthest.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.config, self.out = folder, folder / "city.toml", folder / "out"
        self.random = np.random.default_rng(0)

    def write(
        self,
        targets=("income", "crime"),
        splits=("random", "area", "block"),
        cuts=CUTS,
        *,
        weights="imagenet",
        ceiling=True,
        rejects=True,
        title="A city",
        places=True,
        n_areas=20,
        verdict="better",
        reports="",
    ):
        self.folder.mkdir(exist_ok=True)
        line = 'ceiling = "ceiling.csv"\n' if ceiling else ""
        self.config.write_text(
            'name = "city"\nout = "out"\n[tiles]\ntable = "tiles.csv"\nimages = "."\narea = '
            '"LSOA"\ngroups = ["district"]\n'
            + ('x = "x"\ny = "y"\n' if places else "")
            + f"[targets]\ncolumns = {json.dumps(list(targets), ensure_ascii=False)}\n{line}"
            f'[extract]\ncuts = {json.dumps(list(cuts))}\nweights = "{weights}"\n'
            "[models]\nnames = "
            f"{json.dumps(['mean', *(['location'] if places else []), 'ridge', 'knn'])}\n"
            f"splits = {json.dumps(list(splits))}\nblock_m = 300\n[reports]\ntitle = "
            f"{json.dumps(title, ensure_ascii=False)}\n{reports}",
            encoding="utf-8",
        )
        n = 3 * n_areas
        self.tiles = pd.DataFrame(
            {
                "id": range(n),
                "LSOA": [EVIL if i < 3 else f"E{i // 3}" for i in range(n)],
                "x": np.arange(n) % 10 * 200.0,
                "y": np.arange(n) // 10 * 200.0,
                "district": [EVIL] * 12 + ["D"] * (n - 12) if n > 12 else ["D"] * n,
            }
        )
        for target in targets:
            self.tiles[target] = np.repeat(self.random.normal(size=n_areas), 3)
        self.tiles.to_csv(self.folder / "tiles.csv", index=False)
        pd.DataFrame(
            [(t, lv, 0.81) for t in targets for lv in ("tile", "area")],
            columns=["target", "level", "r2"],
        ).to_csv(self.folder / "ceiling.csv", index=False)
        self.write_runs(targets, splits, cuts)
        self.write_comparisons(targets, splits, cuts, verdict)
        self.write_features(weights, rejects)
        with suppress(ValueError):  # too few areas for folds, or no places
            state_scores(read_settings(self.config, ReportSettings))
        return self

    def write_runs(self, targets, splits, cuts):
        rows = []
        for split in splits:
            gain = 0.3 * (split == "random")
            cells = [("none", m, r2) for m, r2 in BLIND] + [
                (c, m, 0.51 - 0.1 * i - 0.05 * j + gain)
                for i, c in enumerate(cuts)
                for j, m in enumerate(("ridge", "knn"))
            ]
            for cut, model, r2 in cells:
                self.write_run(split, cut, model, targets)
                rows += [
                    {
                        "split": split,
                        **split_cut(cut),
                        "model": model,
                        "target": t,
                        "level": level,
                        "n": len(self.tiles) // (3 if level == "area" else 1),
                        "mse": 1.0,
                        "rmse": 1.0,
                        "nrmse": 0.9,
                        "mae": 0.8,
                        "r2": r2 - 0.07 * (level == "tile"),
                        "spearman": float("nan"),
                        "r2_low": r2 - 0.1,
                        "r2_high": r2 + 0.1,
                        "rmse_low": 0.9,
                        "rmse_high": 1.1,
                        "fit_seconds": 0.25,
                        "calibration_slope": 1.5,
                    }
                    for t in targets
                    for level in ("tile", "area")
                ]
        pd.DataFrame(rows).to_csv(self.out / "scores.csv", index=False)

    def write_run(self, split, cut, model, targets, *, folds="f" * 64):
        frames = [
            pd.DataFrame(
                {
                    "id": self.tiles["id"],
                    "fold": self.tiles.index % 5,
                    "target": t,
                    "truth": self.tiles[t],
                    "prediction": self.tiles[t] * 0.5,
                }
            )
            for t in targets
        ]
        write_run(
            run_folder(self.out, split, cut, model),
            pd.concat(frames),
            None,
            {
                "inputs": {"folds_sha256": folds},
                "seconds": 0.25,
                "versions": {"numpy": "9.9"},
                "cells": {},
                "chosen": {t: {"0": {"alpha": 10.0}} for t in targets},
            },
        )

    def write_comparisons(self, targets, splits, cuts, verdict):
        best = {
            "best_cut": cuts[0],
            "best_model": "ridge",
            "low": 0.2,
            "high": 0.5,
            "p": 0.01,
            "p_corrected": 0.03,
            "n": 20,
            "n_units": 20,
        }
        rows = [
            {
                "split": s,
                "level": lv,
                "target": t,
                "cut": cut,
                "model": m,
                "is_baseline": cut == "none",
                "score": "r2",
                "difference": 0.3866,
                "verdict": verdict if kind == AGAINST_PLACE else v,
                "kind": kind,
                **best,
            }
            for s in splits
            for lv in ("tile", "area")
            for t in targets
            for cut, m, kind, v in (
                ("none", "location", AGAINST_PLACE, ""),
                ("none", "location", AGAINST_OTHERS, "better"),
                (cuts[0], "knn", AGAINST_OTHERS, "not distinguishable"),
            )
        ]
        pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS)).to_csv(
            self.out / "comparisons.csv", index=False
        )
        rows = [
            {
                "split": s,
                "level": lv,
                "target": t,
                **best,
                "score": "r2",
                "value": 0.51,
                "value_corrected": 0.44,
                "low_corrected": 0.33,
                "high_corrected": 0.55,
                "n_cells": 6,
                "n_not_distinguishable": 1,
            }
            for s in splits
            for lv in ("tile", "area")
            for t in targets
        ]
        pd.DataFrame(rows)[list(WINNER_COLUMNS)].to_csv(self.out / "winners.csv", index=False)

    def write_audit(self, severity="fatal", *, accepted=("repeated-id",)):
        finding = {
            "code": "repeated-id",
            "severity": severity,
            "what": "2 ids stand in two rows",
            "count": 2,
            "examples": [EVIL],
            "remedy": "Remove one of each.",
        }
        counts = {"fatal": 0, "warning": 0, "note": 0} | {severity: 1}
        (self.out / "audit.json").write_text(
            json.dumps(
                {
                    "schema": "roofline.audit",
                    "schema_version": 1,
                    "inputs_sha256": "",
                    "n_tiles": 60,
                    "n_areas": 20,
                    "counts": counts,
                    "accepted": list(accepted),
                    "skipped": {},
                    "findings": [finding],
                }
            )
        )
        return self

    def write_features(self, weights, rejects):
        features = self.out / "features"
        features.mkdir(exist_ok=True)
        n = len(self.tiles)
        with h5py.File(features / "vgg16.h5", "w") as file:
            file.attrs.update(
                {
                    "schema": "roofline.embeddings",
                    "schema_version": 1,
                    "weights": weights,
                    "weights_are_random": weights.startswith("random"),
                    "weights_sha256": "ab" * 32,
                    "precision": "float32",
                    "device": "CPU",
                    "created_with": "roofline",
                    "settings": "{}",
                }
            )
            file["id"], file["status"] = np.arange(n), np.r_[2, np.ones(n - 1)].astype(np.uint8)
            file["cuts/block5_pool:avg"] = np.zeros((n, 2), np.float16)
        (features / "stages.json").write_text(
            json.dumps(
                {
                    "vgg16": {
                        "tiles": n,
                        "tiles_per_second": 12.5,
                        "seconds": {"read": 1.0, "forward": 4.0, "total": 5.0},
                    }
                }
            )
        )
        if rejects:
            (features / "rejects.csv").write_text(f"id,path,reason\n0,a.png,{EVIL}\n")

    def build(self) -> str:
        """Write the whole report, and give its page."""
        settings = read_settings(self.config, ReportSettings)
        state_scores(settings)
        return build_report(settings).read_text(encoding="utf-8")

    def render(self) -> str:
        """Return the page alone: drawing every figure as a file takes longer than all the rest."""
        collected = collect(read_settings(self.config, ReportSettings))
        return render_page(build_content(collected))

    def change_scores(self, **columns) -> None:
        path = self.out / "scores.csv"
        pd.read_csv(path, keep_default_na=False, na_values=[""]).assign(**columns).to_csv(
            path, index=False
        )


def row_of(page: str, target: str) -> str:
    """Return the first table row whose head is the target."""
    return re.search(rf'<tr><th scope="row">{re.escape(target)}</th>.*?</tr>', page, re.S)[0]
