"""Predict once, in a process that loads nothing else: `python -m benchmarks.predict_once FOLDER
SOURCE MODEL` prints JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from benchmarks.peak import read_peak
from extract.settings import read_settings
from models.data.place_settings import PlaceSettings
from models.predicting.predict import predict_place
from models.settings import FitSettings


def main(folder: Path, source: str, model: str) -> None:
    """Print seconds and the peak of memory [bytes].

    Parameters
    ----------
    source : `features` for features alone, or `csv` or `parquet` for the table of that kind.
    """
    settings = read_settings(folder / "s.toml", FitSettings)
    place = (
        folder / "new/features"
        if source == "features"
        else read_settings(folder / f"{source}.toml", PlaceSettings)
    )
    start = time.perf_counter()
    predict_place(settings, place, "index", folder / "predicted", model=model)
    print(json.dumps([time.perf_counter() - start, read_peak()]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
