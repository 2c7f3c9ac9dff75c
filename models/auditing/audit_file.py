"""The findings of an audit on disk, `audit.json`.

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

Schema `roofline.audit`, version 3: ranges in `neighbours-alike`. To raise it: add one to
`SCHEMA_VERSION`, and write a line in CHANGELOG.md; the data are then audited anew.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd

from extract.errors import RunFileError
from models.auditing.findings import SEVERITIES, AuditInputs, Finding
from models.store.documents import read_document, write_json
from models.store.seal import SEAL, is_sealed, seal

SCHEMA = "roofline.audit"
SCHEMA_VERSION = 3


class AuditDocument(TypedDict):
    """`audit.json`, with its findings as records; counts are by severity, skipped checks by what
    they lack.
    """

    schema_version: int
    inputs_sha256: str
    n_tiles: int
    n_areas: int
    counts: dict[str, int]
    accepted: list[str]
    skipped: dict[str, list[str]]
    findings: list[Finding]


def write_audit(
    folder: Path,
    inputs: AuditInputs,
    findings: Sequence[Finding],
    accept: Sequence[str],
    *,
    skipped: dict[str, list[str]],
) -> Path:
    """Write `audit.json` whole or not at all, and return its path.

    Parameters
    ----------
    skipped : what the data lack → codes of the checks that were not possible.
    """
    folder.mkdir(parents=True, exist_ok=True)
    counts = Counter(finding.severity for finding in findings)
    document = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "inputs_sha256": hash_inputs(inputs),
        "n_tiles": len(inputs),
        "n_areas": len(inputs.areas),
        "counts": {severity: counts[severity] for severity in SEVERITIES},
        "accepted": list_accepted(findings, accept),
        "skipped": skipped,
        "findings": [dataclasses.asdict(finding) for finding in findings],
    }
    path = folder / "audit.json"
    write_json(path, seal(document))
    return path


def list_accepted(findings: Sequence[Finding], accept: Sequence[str]) -> list[str]:
    """Return the codes of the fatal findings that are accepted."""
    codes = {finding.code for finding in findings if finding.severity == "fatal"}
    return sorted(codes & set(accept))


def read_audit(folder: Path) -> AuditDocument:
    """Read `audit.json`; `findings` are `Finding`s.

    Raises
    ------
    RunFileError : not there, not JSON, another schema, or a finding that is none.
    """
    path = folder / "audit.json"
    document: Any = read_document(path, SCHEMA, SCHEMA_VERSION)
    if SEAL in document and not is_sealed(document):
        raise RunFileError(
            f"{path}: changed since `make models` wrote it. Delete it and run `make models` again."
        )
    try:
        document["findings"] = [Finding(**finding) for finding in document["findings"]]
    except (KeyError, TypeError) as error:
        raise RunFileError(
            f"{path}: not as `make models` writes it ({error}). Delete it and run `make models` "
            "again."
        ) from None
    audited: AuditDocument = document
    return audited


def read_same(folder: Path, inputs: AuditInputs, accept: Sequence[str]) -> list[Finding] | None:
    """Return the findings of an earlier audit of the same inputs, where there was one."""
    try:
        document = read_audit(folder)
    except RunFileError:
        return None
    found = document["findings"]
    is_same = (
        document["schema_version"] == SCHEMA_VERSION
        and document["accepted"] == list_accepted(found, accept)
        and document["inputs_sha256"] == hash_inputs(inputs)
    )
    return found if is_same else None


def hash_inputs(inputs: AuditInputs) -> str:
    """SHA-256 of everything that the checks see."""
    digest = hashlib.sha256()
    frames = (
        pd.DataFrame({"id": inputs.ids, "area": inputs.area}),
        inputs.targets,
        inputs.groups,
        pd.DataFrame(inputs.folds),
    )
    for frame in frames:
        names = "\0".join(map(str, frame.columns))
        hashes = pd.util.hash_pandas_object(frame, index=False).to_numpy()
        digest.update(names.encode())
        digest.update(hashes.tobytes())
    for array in (inputs.xy, inputs.pictures):
        content = b"\1"
        if array is not None:
            content = np.ascontiguousarray(array).tobytes()
        digest.update(content)
    facts = (
        inputs.size_m,
        inputs.n_blocks,
        inputs.buffer_m,
        inputs.classes,
        inputs.area_column,
    )
    digest.update(repr(facts).encode())
    return digest.hexdigest()
