"""The sentence that each later section opens with; decided by numbers alone."""

from __future__ import annotations

import math
from collections import Counter

from reports.data.collect import Collected
from reports.sections.error_equity import BY_TILES, BY_TRUTH, Burden
from reports.sections.maps import Maps

ALPHA = 0.05


def describe_calibration(collected: Collected) -> str:
    """Describe whether predictions of the best models are to be taken at their word."""
    rows = collected.best[["target", "calibration_slope"]].dropna()
    if rows.empty:
        return "How truth follows the predictions of each target's best model."
    slopes = dict(
        zip(rows["target"], rows["calibration_slope"].astype(float).round(2), strict=True)
    )
    near = [t for t, s in slopes.items() if 0.9 <= s <= 1.1]
    steep = max(slopes, key=lambda t: slopes[t])
    flat = min(slopes, key=lambda t: slopes[t])
    of = f"{len(near)} of {len(slopes)} target{'s' if len(slopes) != 1 else ''}"
    text = f"Predictions can be taken at their word (a slope of truth on prediction from 0.9 to 1.1) for {of}"
    if len(slopes) > 1:
        text += f"; slopes reach from {slopes[flat]:.2f} ({flat}) to {slopes[steep]:.2f} ({steep})"
    text += ": below 1 a difference is predicted too large, above 1 too small"
    if slopes[flat] < 0:
        text += ", below 0 the wrong way round"
    return f"{text}.".replace("-", "−")


def describe_moran(maps: dict[str, Maps]) -> str:
    """Describe whether what the models leave over clusters on the map."""
    known = {t: m for t, m in maps.items() if not math.isnan(m.moran)}
    if not known:
        return "Where truth, prediction and what is left over lie."
    found = {t: m for t, m in known.items() if m.p < ALPHA}
    if not found:
        return (
            f"What the best models leave over lies on the map as chance would have it, on {_every(len(known), 'target')} "
            "(Moran's I, p ≥ 0.05)."
        )
    top = max(found, key=lambda t: found[t].moran)
    of = f"{len(known)} target{'s' if len(known) != 1 else ''}"
    return (
        f"What the best models leave over clusters on the map for {len(found)} of {of}, most of all {top} "
        f"(Moran's I {found[top].moran:.2f}, p = {found[top].p:.3f}): neighbouring areas have something in common "
        "that the model does not see."
    )


def _every(n: int, word: str) -> str:
    return f"all {n} {word}s" if n > 1 else f"the only {word}"


def describe_unit(maps: dict[str, Maps], collected: Collected) -> str:
    """Describe what one patch of colour on the maps is."""
    sides = [m.side_m for m in maps.values() if m.side_m is not None]
    if collected.boundaries is None:
        return (
            f"Squares of {round(sides[0], 1):g} m, north up; the mean of the tiles in each"
            if sides
            else ""
        )
    n = collected.boundaries.n_missing
    lost = (
        f" ({n:,} area{'s have' if n != 1 else ' has'} no polygon there)".replace(",", "\u202f")
        if n
        else ""
    )
    return f"Areas as {collected.boundaries.name} draws them{lost}, north up; the mean of an area's tiles"


def describe_burdens(burdens: dict[str, Burden]) -> str:
    """Describe how many groups are systematically misjudged."""
    counts: Counter[str] = Counter()
    for burden in burdens.values():
        groups = burden.table[~burden.table["by"].isin([BY_TRUTH, BY_TILES])]
        counts["groups"] += len(groups)
        counts["warned"] += int((groups["warning"] != "").sum())
        tenths = burden.table.loc[burden.table["by"] == BY_TRUTH, "bias"].to_numpy()
        counts["drawn in"] += int(tenths[0] > 0 > tenths[-1])
    text = (
        f"The extremes are drawn towards the mean on {counts['drawn in']} of {len(burdens)} "
        f"target{'s' if len(burdens) != 1 else ''}"
    )
    if not counts["groups"]:
        return text + "; the settings name no group columns to look at."
    return text + (
        f"; of {counts['groups']} groups, counted once a target, {counts['warned']} are predicted systematically too high "
        "or too low."
    )


def describe_data(collected: Collected) -> str:
    """Describe what went in, and what the audit found."""
    n_rejected = len(collected.rejects)
    text = f"{n_rejected:,} tile{'s' if n_rejected != 1 else ''} rejected".replace(",", "\u202f")
    if collected.tiles is not None:
        text = (
            f"{len(collected.tiles):,} tiles in {collected.n_areas:,} areas".replace(",", "\u202f")
            + f", {text}"
        )
    if collected.audit is None:
        return text + "; the data were not audited."
    counts = {k: int(n) for k, n in collected.audit["counts"].items() if n}
    said = ", ".join(
        f"{n} {word}{'s' if n != 1 and word != 'fatal' else ''}" for word, n in counts.items()
    )
    return text + (f"; the audit found {said}." if said else "; the audit found nothing to remark.")
