"""What the models look at: the sentence and the rows of the explained tiles."""

from __future__ import annotations

from typing import Any

from reports.data.galleries import Galleries


def describe_galleries(galleries: Galleries) -> str:
    """Describe whether the maps depend on what the models learnt; empty without galleries."""
    shown = galleries.shown
    if not shown:
        return ""
    lost = [t for t, g in shown.items() if not g.facts["sanity"]["depends_on_weights"]]
    whose = "the" if len(shown) == 1 else "each"
    text = f"Where on a tile the prediction of {whose} model comes from. "
    if lost:
        return text + (
            f"Do not read the maps of {', '.join(lost)}: they stay much the same when the "
            "learnt weights are shuffled."
        )
    return text + (
        "When the learnt weights are shuffled, every map changes: the maps show the models, "
        "not just the pictures."
    )


def list_rows(galleries: Galleries) -> list[dict[str, Any]]:
    """Return the facts of each gallery for report.json."""
    names = ("target", "cut", "model", "method", "limit")
    return [
        {name: gallery.facts[name] for name in names}
        | {"rank_correlation": gallery.facts["sanity"]["rank_correlation"]}
        for gallery in galleries.shown.values()
    ]
