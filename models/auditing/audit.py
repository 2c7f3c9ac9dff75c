"""Audit the data before anything is fitted.

A fatal finding ends `fit` unless `[models] accept` names its code; it then stands in the report. A
share is fatal above 1 %, `findings.SHARE`: if a share s of the tiles is answered from memory, R²
rises by about s · (1 − R²).

=========================  ===================  ==================================================
code                       severity             found where
=========================  ===================  ==================================================
repeated-id                fatal                an id stands in two rows
area-variants              fatal                area codes are the same to a person
label-variants             warning              classes or group values are
area-in-two-folds          fatal                `area` or `block` holds an area out only in part
labels-differ              fatal above 1 %      tiles of an area have different labels of a target
same-picture-across-areas  fatal above 1 %      equal pixels under two areas
missing-labels             note, warning, fatal  labels missing; over 20 %; all
near-picture-across-areas  warning              hashes differ in at most 3 of 64 bits
overlap-across-folds       warning, note        footprints overlap another fold; note on `random`
same-place                 warning              two tiles have one centre
degrees-for-metres         warning              coordinates within ±180, ±90
odd-area-codes             warning              up to 5 % of the codes have another form
mixed-area-levels          warning              LSOA beside MSOA, ward … codes
mixed-vintage              warning, note        LSOA codes of 2021 beside others
few-areas                  warning              fewer than 30 areas
few-blocks                 warning              `block` has fewer than 20 blocks
group-is-area              warning              90 % of a column's values stand for one area
group-holds-target         warning              over 85 % of the rank variance between groups
constant-target            warning              one value
sentinel-labels            warning              −9999 and the like, far outside the others
target-copies              warning              |r| of two targets above 0.999
twin-areas                 warning              equal labels of three targets or more
target-follows-tile-count  warning              |ρ| above 0.3 over areas, p < 0.01 (Bonferroni)
target-follows-file-size   warning              the same, with the mean size of the picture files
rare-classes               warning              a class in fewer areas than folds
areas-without-pictures     warning above 1 %    every picture was rejected; else note
blank-pictures             warning above 5 %    one colour, or half without data; else note
same-picture-within-area   note                 equal pixels under one area
one-tile-areas             note                 an area has one tile
uneven-areas               note                 Kish's effective number under half of all
few-values                 note                 at most 10 values, or one in most areas
neighbours-alike           note                 labels of nearest areas correlate; no `block`
inferred-tile-size         note                 no tile size is set
=========================  ===================  ==================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from extract.config.arrays import Ints
from extract.errors import AuditError
from extract.settings import ExtractSettings
from extract.store.embeddings import Embeddings
from extract.tables.tile_table import Tiles
from models.auditing import areas as audit_areas
from models.auditing import labels as audit_labels
from models.auditing import pictures as audit_pictures
from models.auditing import places as audit_places
from models.auditing import targets as audit_targets
from models.auditing.audit_file import read_same, write_audit
from models.auditing.findings import SEVERITIES, AuditInputs, Check, Finding, Need
from models.data.cut_data import check_same_tiles
from models.data.units import number_units


def _list_checks(module: ModuleType) -> dict[str, Check]:
    """Return the checks that a module defines, by code, in its order."""
    checks = [one for one in vars(module).values() if isinstance(one, Check)]
    return {one.code: one for one in checks}


CHECKS: dict[str, Check] = {
    **_list_checks(audit_places),
    **_list_checks(audit_areas),
    **_list_checks(audit_labels),
    **_list_checks(audit_targets),
    **_list_checks(audit_pictures),
}
_LACKING: dict[Need, str] = {
    "pictures": "no features yet, or they do not describe their pictures: run `make features`",
    "places": "no coordinates: set x and y, or grid, in [tiles]",
    "folds": "no folds",
}


def audit(inputs: AuditInputs) -> list[Finding]:
    """Look for everything that the data allow to look for; fatal findings first.

    Returns
    -------
    The findings; empty where the data are clean.
    """
    found: list[Finding] = []
    for check in CHECKS.values():
        found += check(inputs)
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def list_skipped(inputs: AuditInputs) -> dict[str, list[str]]:
    """Return the checks that were not possible, by what the data lack."""
    skipped: dict[str, list[str]] = {}
    for check in CHECKS.values():
        for need in check.needs:
            if not inputs.has(need):
                skipped.setdefault(_LACKING[need], []).append(check.code)
    return skipped


def list_fatal(findings: Sequence[Finding], accept: Sequence[str]) -> list[Finding]:
    """Return the fatal findings that are not accepted."""
    return [
        finding
        for finding in findings
        if finding.severity == "fatal" and finding.code not in accept
    ]


def check_fatal(findings: Sequence[Finding], accept: Sequence[str]) -> None:
    """Raise `AuditError` where a fatal finding is not accepted."""
    fatal = list_fatal(findings, accept)
    if fatal:
        lines = [f"audit: {describe(finding)}" for finding in fatal]
        codes = dict.fromkeys(f'"{finding.code}"' for finding in fatal)
        lines.append(
            "Nothing was fitted. To fit all the same, and have it stand in the report: "
            f"[models] accept = [{', '.join(codes)}]"
        )
        raise AuditError("\n".join(lines))


def describe(finding: Finding) -> str:
    """Return a finding as one line, with two examples."""
    examples = "; ".join(finding.examples[:2])
    as_examples = f", as {examples}" if examples else ""
    return f"{finding.code}: {finding.what}{as_examples}. {finding.remedy}"


def run_audit(folder: Path, inputs: AuditInputs, accept: Sequence[str]) -> list[Finding]:
    """Audit what was not audited before, and write `audit.json`; `check_fatal` then decides whether
    a fit goes on.
    """
    findings = read_same(folder, inputs, accept)
    if findings is None:
        findings = audit(inputs)
        write_audit(folder, inputs, findings, accept, skipped=list_skipped(inputs))
    return findings


def gather_inputs(
    settings: ExtractSettings,
    tiles: Tiles,
    folds: dict[str, Ints],
    *,
    block_m: float = 0.0,
    buffer_m: float = 0.0,
) -> AuditInputs:
    """Return what the settings, the table and the features (where there are some) hold for an
    audit.

    Parameters
    ----------
    folds : split → (n_tiles,) fold. block_m : side of the blocks [m]. buffer_m : as `AuditInputs`.

    Raises
    ------
    FitError, EmbeddingsError : the features are of other tiles, or not readable.
    """
    grid = settings.tiles.grid
    size_m = settings.tiles.size_m or (grid.size_m if grid is not None else None)
    n_blocks = 0
    if "block" in folds:
        block = number_units("block", tiles.area.to_numpy(), xy=tiles.xy, block_m=block_m)
        n_blocks = int(block.max()) + 1
    return AuditInputs(
        ids=tiles.id.to_numpy(),
        area=tiles.area.to_numpy(dtype=object),
        targets=pd.concat([tiles.targets, tiles.classes], axis=1),
        classes=tuple(map(str, tiles.classes)),
        groups=tiles.groups,
        xy=tiles.xy,
        size_m=size_m,
        pictures=_read_pictures(settings, tiles),
        folds=folds,
        n_blocks=n_blocks,
        buffer_m=buffer_m,
        area_column=settings.tiles.area,
    )


def _read_pictures(settings: ExtractSettings, tiles: Tiles) -> Any:
    """Read what the first backbone that describes its pictures says of them; None where none
    does.
    """
    for backbone in settings.extract.backbones:
        path = settings.folder / "features" / f"{backbone}.h5"
        if path.is_file():
            with Embeddings(path) as embeddings:
                check_same_tiles(embeddings, tiles)
                if embeddings.pictures is not None:
                    return embeddings.pictures
    return None
