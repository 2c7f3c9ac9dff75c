"""The findings of an audit on disk, `audit.json`.

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
