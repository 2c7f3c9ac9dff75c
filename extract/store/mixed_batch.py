"""A batch of tiles, some of which are kept from earlier shards and need no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extract.config.arrays import Array, Ints, Pixels
from extract.config.stored_type import saturate
from extract.pictures.decode import PICTURE
from extract.pictures.picture_source import Batch
from extract.store.kept_rows import KeptRows, Match, Stamps


@dataclass(slots=True, kw_only=True)
class MixedBatch:
    """Tiles of one batch, as one backbone has them.

    Attributes
    ----------
    pictures : (n_new, size, size, 3), those that go through the network.
    new : (n_new,), places of these in the batch.
    kept : (n_kept,), places of the others; `kept_rows` are their rows in `source`.
    reasons, facts, stamps : (n,), as for `extract.store.shards.ShardWriter.append`.
    """

    pictures: Pixels
    new: Ints
    kept: Ints
    kept_rows: Ints
    source: KeptRows | None
    reasons: list[str]
    facts: NDArray[np.void]
    stamps: Stamps

    def merge(self, rows: Mapping[str, Array], cuts: list[str]) -> Mapping[str, Array]:
        """Return the rows of every cut, in the order of the batch: cut → (n, …).

        Parameters
        ----------
        rows : cut → (n_new, …), from the network; empty where all are kept.
        """
        if self.source is None or not len(self.kept):
            return rows
        merged = {}
        for cut in cuts:
            kept = self.source.read(cut, self.kept_rows)
            out = np.empty((len(self.reasons), *kept.shape[1:]), kept.dtype)
            out[self.kept] = kept
            if len(self.new):
                out[self.new] = saturate(rows[cut], kept.dtype)
            merged[cut] = out
        return merged


def mix_batch(
    batch: Batch, places: Ints, match: Match | None, source: KeptRows | None, *, stamps: Stamps
) -> MixedBatch:
    """Part a batch into what is new and what is kept.

    A tile is kept where its picture has the stamp that it had, or was decoded and has the same
    pixels.

    Parameters
    ----------
    batch : the tiles that were decoded; `places` : (n_decoded,), where they lie in the batch.
    stamps : (n,), of all pictures.
    """
    if match is None or source is None:
        return MixedBatch(
            pictures=batch.pictures,
            new=places,
            kept=np.array([], np.int64),
            kept_rows=np.array([], np.int64),
            source=None,
            reasons=batch.reasons,
            facts=batch.facts,
            stamps=stamps,
        )
    contents = np.zeros(len(stamps), np.uint64)
    contents[places] = batch.facts["content"]
    is_equal = (contents != 0) & (contents == source.read_contents(match.rows))
    is_kept = match.is_same | (is_equal & (match.rows >= 0))
    kept = np.flatnonzero(is_kept)
    new = np.flatnonzero(~is_kept)
    decoded = np.full(len(stamps), -1)
    decoded[places] = np.arange(len(places))
    mixed = MixedBatch(
        pictures=batch.pictures[decoded[new]],
        new=new,
        kept=kept,
        kept_rows=match.rows[kept],
        source=source,
        reasons=[""] * len(stamps),
        facts=np.zeros(len(stamps), PICTURE),
        stamps=stamps.copy(),
    )
    mixed.facts[kept] = source.read_facts(mixed.kept_rows)
    mixed.facts[places] = batch.facts
    then = source.read_stamps(mixed.kept_rows)
    mixed.stamps[kept] = np.where(stamps[kept] == 0, then, stamps[kept])
    reasons = zip(kept.tolist(), source.read_reasons(mixed.kept_rows), strict=True)
    for place, reason in reasons:
        mixed.reasons[place] = reason
    for place in new.tolist():
        mixed.reasons[place] = batch.reasons[decoded[place]]
    return mixed
