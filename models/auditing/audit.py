"""Audit the data before anything is fitted; `models.auditing.audit_file` lists what is found."""

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
