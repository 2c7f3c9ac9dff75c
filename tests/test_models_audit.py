"""Each finding of the audit has data that trigger it alone, and a clean set triggers none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from extract.errors import AuditError, RunFileError
from extract.pictures.decode import PICTURE, DecodeOptions, decode_tile, describe
from extract.settings import read_settings
from extract.store.shards import ShardWriter, write_virtual
from extract.tables.tile_table import read_tiles
from models.auditing import audit_file
from models.auditing.audit import CHECKS, audit, check_fatal, gather_inputs, list_skipped, run_audit
from models.auditing.audit_file import read_audit, write_audit
from models.auditing.findings import AuditInputs, Finding
from models.auditing.near_duplicates import MAX_BITS, group_near, near_pairs
from models.cli import app
from models.data.finding_codes import FINDING_CODES
from models.settings import FitSettings

N_AREAS, SIDE = 90, 200.0
AREA = np.arange(N_AREAS * 6) // 6
Change = Callable[[AuditInputs], AuditInputs]


def clean() -> AuditInputs:
    """90 areas of 2 × 3 touching tiles on a grid, random labels and pictures, areas whole in their
    folds.
    """
    rng, n = np.random.default_rng(3), len(AREA)
    k = np.arange(n) % 6
    xy = np.column_stack([AREA % 10 * 2 + k % 2, AREA // 10 * 3 + k // 2]) * SIDE + 5e5
    pictures = np.zeros(n, PICTURE)
    pictures["bytes"], pictures["spread"] = rng.integers(20_000, 60_000, n), 40
    pictures["content"], pictures["perceptual"] = rng.integers(1, 2**63, (2, n), dtype=np.uint64)
    targets = pd.DataFrame(
        {name: rng.normal(size=N_AREAS)[AREA] for name in ("income", "health", "crime")}
    )
    return AuditInputs(
        ids=np.arange(n),
        area=np.array([f"E01{a:06d}" for a in AREA], dtype=object),
        area_column="LSOA11CD",
        xy=xy,
        size_m=SIDE,
        targets=targets.assign(kind=np.array(["old", "new"])[AREA % 2]),
        classes=("kind",),
        pictures=pictures,
        groups=pd.DataFrame({"lad": rng.integers(0, 6, N_AREAS)[AREA].astype(str)}),
        folds={"random": np.zeros(n, np.int64), "area": AREA % 5, "block": AREA // 10 % 3},
        buffer_m=300,
    )


def put(name: str, rows: object, value: object, column: str | None = None) -> Change:
    """Change some rows of one field; of one column of it, where that is named."""

    def change(inputs: AuditInputs) -> AuditInputs:
        new = getattr(inputs, name).copy()
        if isinstance(new, pd.DataFrame):
            new.loc[rows, column] = value
        else:
            (new if column is None else new[column])[rows] = value
        return replace(inputs, **{name: new})

    return change


def field(name: str, value: object) -> Change:
    return lambda inputs: replace(inputs, **{name: value})


def of_area(values: object) -> np.ndarray:
    return np.asarray(values)[AREA]


def take(inputs: AuditInputs, rows: np.ndarray) -> AuditInputs:
    """Keep some tiles."""
    return replace(
        inputs,
        ids=inputs.ids[rows],
        area=inputs.area[rows],
        targets=inputs.targets.iloc[rows].reset_index(drop=True),
        groups=inputs.groups.iloc[rows].reset_index(drop=True),
        xy=inputs.xy[rows],
        pictures=inputs.pictures[rows],
        folds={split: fold[rows] for split, fold in inputs.folds.items()},
    )


def targets(**columns: object) -> Change:
    return lambda inputs: replace(inputs, targets=inputs.targets.assign(**columns))


def groups(values: object) -> Change:
    return lambda inputs: replace(inputs, groups=inputs.groups.assign(soac=of_area(values)))


def follows(inputs: AuditInputs) -> AuditInputs:
    pictures = inputs.pictures.copy()
    pictures["bytes"] = 30_000 + 5_000 * inputs.targets["income"]
    return replace(inputs, pictures=pictures)


def thinned(inputs: AuditInputs) -> AuditInputs:
    """Areas of 2 … 6 tiles, more where income is high."""
    rank = inputs.targets["income"].rank(pct=True).to_numpy()
    return take(inputs, np.flatnonzero(np.arange(len(AREA)) % 6 < 2 + np.ceil(4 * rank)))


def smooth(inputs: AuditInputs) -> AuditInputs:
    folds = {split: fold for split, fold in inputs.folds.items() if split != "block"}
    return replace(
        inputs,
        folds=folds,
        targets=inputs.targets.assign(
            income=of_area(np.arange(N_AREAS) // 10 * 1.0 + np.arange(N_AREAS) % 10 * 0.01)
        ),
    )


def merged(inputs: AuditInputs) -> AuditInputs:
    """Make the first 30 areas one."""
    big = AREA < 30
    same = {name: column.where(~big, column.iloc[0]) for name, column in inputs.targets.items()}
    return replace(
        inputs,
        area=np.where(big, "E01000000", inputs.area),
        targets=pd.DataFrame(same),
        folds={"area": np.where(big, 0, AREA % 5), "block": np.where(big, 0, AREA // 10 % 3)},
    )


FIRST = np.arange(6)  # the tiles of the first area
NUMBERS = ["income", "health", "crime"]
BLANK = np.array((900, (0, 0, 0), (0, 0, 0), 0, 5, 0), PICTURE)
TRIGGERS: dict[str, Change] = {
    "repeated-id": put("ids", [7], 8),
    "area-variants": put("area", FIRST[:3], "e01 000000"),
    "label-variants": put("targets", AREA % 4 == 1, "Old\u200b", "kind"),
    "area-in-two-folds": lambda i: replace(
        i, folds={**i.folds, "block": np.where(i.ids == 0, 2, i.folds["block"])}
    ),
    "labels-differ": put("targets", [0, 6], 0.3, "income"),
    "same-picture-across-areas": put("pictures", np.arange(12) * 6, 77, "content"),
    "missing-labels": put("targets", FIRST, np.nan, "health"),
    "near-picture-across-areas": lambda i: put(
        "pictures",
        [0],
        i.pictures["perceptual"][500] ^ np.uint64(1 | 1 << 40 | 1 << 63),
        "perceptual",
    )(i),
    "overlap-across-folds": field("size_m", 230.0),
    "same-place": lambda i: put("xy", [3], i.xy[2])(i),
    "degrees-for-metres": lambda i: replace(i, xy=(i.xy - 5e5) / 1e5, size_m=SIDE / 1e5),
    "odd-area-codes": put("area", FIRST, "E0100001"),
    "mixed-area-levels": put("area", FIRST, "E02000001"),
    "mixed-vintage": put("area", FIRST, "E01033769"),
    "few-areas": lambda i: take(i, np.flatnonzero(AREA < 29)),
    "group-is-area": groups([f"g{a}" for a in range(N_AREAS)]),
    "group-holds-target": lambda i: groups(pd.qcut(i.labels["income"], 4, labels=False))(i),
    "constant-target": targets(flat=1.5),
    "sentinel-labels": put("targets", FIRST, -9999.0, "crime"),
    "target-copies": lambda i: targets(poverty=100 - 3 * i.targets["income"])(i),
    "twin-areas": lambda i: put("targets", FIRST, i.targets.loc[6, NUMBERS].to_numpy(), NUMBERS)(i),
    "target-follows-tile-count": thinned,
    "target-follows-file-size": follows,
    "rare-classes": put("targets", np.arange(12), "rare", "kind"),
    "areas-without-pictures": put("pictures", FIRST, np.zeros((), PICTURE)),
    "blank-pictures": put("pictures", np.arange(0, 540, 7), BLANK),
    "same-picture-within-area": put("pictures", [0, 1], 77, "content"),
    "few-blocks": field("n_blocks", 9),
    "one-tile-areas": lambda i: take(i, np.delete(np.arange(len(AREA)), FIRST[1:])),
    "uneven-areas": merged,
    "few-values": lambda i: targets(
        decile=of_area(np.random.default_rng(1).integers(1, 11, N_AREAS))
    )(i),
    "neighbours-alike": smooth,
    "inferred-tile-size": field("size_m", None),
}
FATAL = {
    "repeated-id",
    "area-variants",
    "area-in-two-folds",
    "labels-differ",
    "same-picture-across-areas",
}


def test_clean_data_trigger_nothing() -> None:
    assert audit(clean()) == []


@pytest.mark.parametrize("code", CHECKS)
def test_each_finding_has_data_that_trigger_it_alone(code: str) -> None:
    found = audit(TRIGGERS[code](clean()))
    assert {finding.code for finding in found} == {code}
    assert all((finding.severity == "fatal") == (code in FATAL) for finding in found)
    assert all(
        finding.count > 0 and len(finding.examples) <= 5 and finding.what and finding.remedy
        for finding in found
    )


def find(code: str, inputs: AuditInputs) -> list[Finding]:
    return [finding for finding in audit(inputs) if finding.code == code]


def test_a_few_copies_warn_and_many_are_fatal() -> None:
    few, many = (put("pictures", np.arange(n) * 6, 77, "content")(clean()) for n in (2, 12))
    assert [finding.severity for finding in audit(few)] == ["warning"]
    (found,) = audit(many)
    assert (found.severity, found.count) == ("fatal", 12)
    assert found.what == (
        "12 of 540 tiles (2.2 %) show the same picture as a tile of another area, "
        "12 across the folds of 'area', 12 across the folds of 'block'"
    )
    assert found.examples[0] == "0 (E01000000) and 6 (E01000001)"


def test_copies_in_one_fold_do_not_leak() -> None:
    copies = put("pictures", [i * 30 for i in range(12)], 77, "content")(clean())
    (found,) = audit(replace(copies, folds={"area": AREA % 5}))
    assert found.severity == "warning"
    assert "0 across the folds of 'area'" in found.what


def test_overlap_is_expected_on_random_and_mended_by_a_buffer() -> None:
    inputs = replace(clean(), size_m=230.0, buffer_m=400)
    inputs.folds["random"] = np.arange(len(AREA)) % 5
    assert {finding.what.split()[-1]: finding.severity for finding in audit(inputs)} == {
        "'random'": "note",
        "'area'": "warning",
    }


def test_a_flat_picture_is_no_copy_of_another() -> None:
    (found,) = audit(put("pictures", np.arange(0, 540, 7), BLANK)(clean()))
    assert (found.code, found.count, found.severity) == ("blank-pictures", 78, "warning")


def test_codes_of_2021_are_noted_where_the_column_does_not_say_2011() -> None:
    inputs = put("area", FIRST, "E01033769")(replace(clean(), area_column="code"))
    assert [finding.severity for finding in find("mixed-vintage", inputs)] == ["note"]


def test_welsh_beside_english_areas_are_fine_and_numbers_have_no_form() -> None:
    assert audit(put("area", FIRST, "W01000001")(clean())) == []
    assert audit(replace(clean(), area=AREA.astype(str).astype(object))) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Z\u00fcrich 3", "Zu\u0308rich 3"),
        ("E01000000", "\u041501000000"),
        ("E01000000", "E01\u200b000000"),
        ("E01000000", "E01\ufe0f000000"),
        ("E01000000", "E01\u034f000000"),
        ("E01000000", "\ufeffe01000000 "),
        ("12", "12.0"),
        ("01001", "1001"),
        ("St John\u2019s", "St. John's".replace(".", "")),
        ("\uff21\uff11", "a1"),
        ("A\u20131", "A-1"),
    ],
)
def test_areas_that_are_one_to_a_person_are_fatal_and_shown(one: str, other: str) -> None:
    halves = put("area", FIRST[:3], one)(put("area", FIRST[3:], other)(clean()))
    (found,) = find("area-variants", halves)
    assert (found.severity, found.count) == ("fatal", 2)
    assert found.examples == [f"{one!a} and {other!a}"]


@pytest.mark.parametrize(("one", "other"), [("1", "10"), ("1.5", "15"), ("-1", "1"), ("ä", "a")])
def test_areas_that_a_person_tells_apart_are_two(one: str, other: str) -> None:
    assert find("area-variants", put("area", FIRST, one)(put("area", [8], other)(clean()))) == []


def test_labels_that_differ_by_rounding_are_the_same() -> None:
    inputs = clean()
    assert audit(put("targets", [0], inputs.targets["income"][0] + 1e-9, "income")(inputs)) == []


def test_near_pairs_are_those_of_a_search_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2**64, 60, dtype=np.uint64)
    flips = [
        sum(1 << int(b) for b in rng.choice(64, k, replace=False)) for k in rng.integers(0, 7, 600)
    ]
    ends = np.array([0, 2**64 - 1], np.uint64)
    hashes = np.unique(
        np.concatenate([base, ends, rng.choice(base, 600) ^ np.array(flips, np.uint64)])
    )
    bits = np.unpackbits(hashes.view(np.uint8).reshape(-1, 8), axis=1).astype(int)
    distance = (bits[:, None] != bits[None]).sum(axis=2)
    found = near_pairs(hashes)
    assert found.n_skipped == 0
    assert set(zip(found.left.tolist(), found.right.tolist(), strict=True)) == {
        (a, b) for a, b in np.argwhere(distance <= MAX_BITS).tolist() if a < b
    }


def test_pictures_saved_as_jpeg_are_near_and_real_neighbours_are_not(shared: Path) -> None:
    look = DecodeOptions(size=224, max_pixels=10**6)
    rgb = [
        decode_tile(path.read_bytes(), look)[0]
        for path in sorted((shared / "data/london_lidar/LIDAR").glob("*.png"))[:60]
    ]
    jpeg = [
        decode_tile(cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes(), look)[0]
        for picture in rgb
    ]
    hashes = np.array(
        [describe(picture, n_bytes=1, nodata=0)["perceptual"] for picture in rgb + jpeg]
    )
    assert group_near(hashes[:60]).has_other(np.arange(60)).sum() == 0
    assert group_near(hashes).has_other(np.arange(120) // 60).mean() > 0.95


def test_a_hundred_thousand_equal_hashes_are_one_group() -> None:
    twins = group_near(np.full(100_000, 2**40 + 2**20 + 77, np.uint64))
    assert twins.has_other(np.r_[1, np.zeros(99_999, np.int64)]).all()
    assert not twins.has_other(np.zeros(100_000, np.int64)).any()


def test_what_the_data_lack_is_not_looked_for_and_said() -> None:
    bare = replace(clean(), pictures=None, xy=None)
    assert audit(bare) == []
    skipped = {code for codes in list_skipped(bare).values() for code in codes}
    assert skipped == {
        code for code, check in CHECKS.items() if {"pictures", "places"} & set(check.needs)
    }


def test_fatal_findings_end_the_fit_unless_accepted(tmp_path: Path) -> None:
    findings = run_audit(tmp_path, TRIGGERS["labels-differ"](clean()), ["labels-differ"])
    with pytest.raises(
        AuditError, match=r'(?s)labels-differ: .*2 of 90 areas .* accept = \["labels-differ"\]'
    ):
        check_fatal(findings, [])
    check_fatal(findings, ["labels-differ"])
    document = read_audit(tmp_path)
    assert document["findings"] == findings
    assert document["accepted"] == ["labels-differ"]
    assert document["counts"] == {"fatal": 1, "warning": 0, "note": 0}
    assert not list(tmp_path.glob("*.partial"))


def test_the_hash_of_the_inputs_tells_every_field(tmp_path: Path) -> None:
    hashes = set()
    for change in (lambda i: i, *TRIGGERS.values()):
        run_audit(tmp_path, change(clean()), [])
        hashes.add(read_audit(tmp_path)["inputs_sha256"])
    assert len(hashes) == 1 + len(TRIGGERS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ('{"schema": "roofline.run", "schema_version": 1}', "expected schema 'roofline.audit'"),
        ('{"schema": "roofline.audit", "schema_version": 4}', "newer Roofline"),
        (
            '{"schema": "roofline.audit", "schema_version": 3, "findings": [{"code": "x"}]}',
            "not as `make models` writes it",
        ),
    ],
)
def test_another_audit_json_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "audit.json").write_text(text)
    with pytest.raises(RunFileError, match=message):
        read_audit(tmp_path)


def test_data_that_an_older_audit_passed_are_audited_anew(tmp_path: Path) -> None:
    inputs = put("area", FIRST[:3], "\u041501000000")(clean())
    path = write_audit(tmp_path, inputs, [], [], skipped={})
    assert run_audit(tmp_path, inputs, []) == []
    path.write_text(path.read_text().replace('"schema_version": 3', '"schema_version": 2'))
    assert [finding.code for finding in run_audit(tmp_path, inputs, [])] == ["area-variants"]


def test_every_check_stands_in_the_table_of_the_docstring() -> None:
    listed = [
        line.split()[0]
        for line in (audit_file.__doc__ or "").splitlines()
        if "-" in line[:20] and "  " in line
    ]
    assert sorted(listed) == sorted(CHECKS)


def test_settings_know_the_code_of_every_check() -> None:
    assert sorted(FINDING_CODES) == sorted(CHECKS)


def test_an_unknown_code_to_accept_is_refused_with_the_nearest(
    experiment: Callable[..., Path],
) -> None:
    path = experiment()
    path.write_text(path.read_text() + '[models]\naccept = ["label-differ"]\n')
    with pytest.raises(
        ValueError, match=r"unknown finding 'label-differ'.*Did you mean 'labels-differ'"
    ):
        read_settings(path, FitSettings)


def test_the_command_says_what_it_found_and_exits_1(experiment: Callable[..., Path]) -> None:
    path = experiment(n=40)
    found = CliRunner().invoke(app, ["audit", "--config", str(path)])
    assert found.exit_code == 1
    for words in (
        "fatal: labels-differ",
        "20 of 20 areas (100 %) have tiles with different labels",
        "e.g. A0: 0, 0.0256",
        "→ Mend the join",
        "not looked for (no features yet",
    ):
        assert words in found.output
    path.write_text(path.read_text() + '[models]\naccept = ["labels-differ"]\n')
    found = CliRunner().invoke(app, ["audit", "--config", str(path)])
    assert found.exit_code == 0
    assert "fatal (accepted): labels-differ" in found.output
    assert read_audit(path.parent / "out")["accepted"] == ["labels-differ"]


@pytest.mark.parametrize(
    "change",
    [
        lambda i: take(i, np.arange(1)),
        lambda i: take(i, FIRST),
        lambda i: take(i, np.arange(0, 540, 6)),
        targets(income=np.nan, kind=None),
        lambda i: replace(i, pictures=np.zeros(len(i), PICTURE)),
        lambda i: replace(
            i, folds={"block": np.full(len(i), -1)}, xy=np.zeros((len(i), 2)), size_m=None
        ),
    ],
)
def test_data_without_anything_to_compare_are_audited_too(change: Change) -> None:
    assert all(finding.count > 0 for finding in audit(change(clean())))


def test_a_target_without_labels_is_fatal() -> None:
    assert [(f.severity, f.count) for f in audit(targets(income=np.nan)(clean()))] == [
        ("fatal", 540)
    ]


def test_pictures_come_from_the_first_backbone_that_has_them(
    experiment: Callable[..., Path],
) -> None:
    settings = read_settings(experiment(), FitSettings)
    tiles, shard = read_tiles(settings), settings.folder / "features/mobilenetv2/part-00000.h5"
    shard.parent.mkdir(parents=True)
    facts = np.zeros(12, PICTURE)
    facts["bytes"], facts["spread"], facts["content"] = [0, *[900] * 11], 40, np.arange(12) % 3
    writer = ShardWriter(
        shard, tiles.id, {"last:avg": (2,)}, dtype="float16", attributes={}, facts=PICTURE
    )
    writer.append({"last:avg": np.zeros((12, 2))}, ["file empty"] + [""] * 11, facts)
    writer.close()
    write_virtual(settings.folder / "features/mobilenetv2.h5", [shard])
    inputs = gather_inputs(settings, tiles, {})
    np.testing.assert_array_equal(inputs.is_usable, np.arange(12) > 0)
    assert [finding.count for finding in find("same-picture-across-areas", inputs)] == [11]
    assert inputs.size_m is None


def test_real_london_has_codes_labels_and_folds_in_order(shared: Path) -> None:
    table = pd.read_csv(shared / "data/london_areas/london_grid.csv.gz")
    names = [
        "income",
        "employment",
        "education",
        "health",
        "crime",
        "barriers",
        "living_environment",
    ]
    found = {
        f.code: f
        for f in audit(
            AuditInputs(
                ids=table["id"].to_numpy(),
                area=table["LSOA11CD"].to_numpy(object),
                area_column="LSOA11CD",
                targets=table[names],
                groups=table[["LAD17NM", "LACCD", "SOAC11CD"]],
                size_m=200.0,
                xy=np.column_stack(
                    [501650 + 200 * (table["id"] // 248), 203325 - 200 * (table["id"] % 248)]
                ).astype(float),
            )
        )
    }
    assert set(found) == {"target-follows-tile-count", "one-tile-areas", "uneven-areas"}
    assert found["one-tile-areas"].count == 160
