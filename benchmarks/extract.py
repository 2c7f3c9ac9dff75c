"""Every number of the extraction beside its goal: `make bench-extract`, or `python -m
benchmarks.extract --help`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from benchmarks.memory import measure_memory
from benchmarks.rivals import measure_rivals
from benchmarks.rows import Row, name_machine, render_table
from benchmarks.speed import measure_cuts, measure_pipeline, measure_precision, measure_runtimes
from benchmarks.tiles import CUTS, Site

SECTIONS = {
    "pipeline": measure_pipeline,
    "cuts": measure_cuts,
    "precision": measure_precision,
    "rivals": measure_rivals,
    "runtimes": measure_runtimes,
    "memory": measure_memory,
}


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.extract", description="Measure the extraction beside its goals."
    )
    parser.add_argument(
        "--quick", action="store_true", help="short rounds: a look, not a measurement"
    )
    parser.add_argument(
        "--only", default=",".join(SECTIONS), help=f"sections, of {','.join(SECTIONS)}"
    )
    parser.add_argument("--backbones", default=",".join(CUTS), help=f"of {','.join(CUTS)}")
    parser.add_argument("--size", type=int, default=224, help="side of the pictures [pixels]")
    parser.add_argument(
        "--precision", default="auto", help="what the networks compute in, as in the settings"
    )
    parser.add_argument("--batch", type=int, default=32, help="tiles a pass")
    parser.add_argument(
        "--out", type=Path, default=Path("artifacts/bench-extract.json"), help="JSON to write"
    )
    options = parser.parse_args()
    for option, known in (("only", SECTIONS), ("backbones", CUTS)):
        unknown = set(getattr(options, option).split(",")) - set(known)
        if unknown:
            parser.error(
                f"--{option}: unknown {', '.join(sorted(unknown))}; expected some of "
                f"{','.join(known)}"
            )
    return options


def describe(options: argparse.Namespace) -> dict[str, Any]:
    """Describe what the numbers were measured on."""
    names = ("keras", "tensorflow", "tensorflow_cpu", "jax", "torch", "openvino", "ncnn")
    there = {dist.name: dist.version for dist in distributions() if dist.name in names}
    return {
        "machine": name_machine(),
        "versions": there,
        "size": options.size,
        "batch": options.batch,
        "is_quick": options.quick,
    }


def write_rows(out: Path, about: dict[str, Any], sections: dict[str, list[dict[str, Any]]]) -> str:
    """Write what is measured so far, as JSON and as a Markdown table beside it; give the table."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({**about, "rows": sections}, indent=2) + "\n")
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    table = (
        f"{about['machine']}; {versions}; {about['size']} × {about['size']}, batches of "
        f"{about['batch']}, four pooled cuts, "
        f"made tiles; medians of interleaved rounds{' (QUICK)' if about['is_quick'] else ''}. "
        "Random weights: nothing is claimed about the features.\n\n"
        + render_table(Row(**row) for section in sections.values() for row in section)
        + "\n"
    )
    out.with_suffix(".md").write_text(table)
    return table


def main() -> None:
    """Measure, print the table, write it; sections that were not asked for keep their rows of an
    earlier time.
    """
    options = read_options()
    sections: dict[str, list[dict[str, Any]]] = (
        json.loads(options.out.read_text())["rows"] if options.out.is_file() else {}
    )
    about = describe(options)
    with tempfile.TemporaryDirectory() as folder:
        site = Site(
            Path(folder),
            size=options.size,
            batch=options.batch,
            precision=options.precision,
            backbones=options.backbones.split(","),
        )
        for name in options.only.split(","):
            start, sections[name] = time.perf_counter(), []
            for row in SECTIONS[name](site, quick=options.quick):
                sections[name].append(asdict(row))
                table = write_rows(options.out, about, sections)
            print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    print(f"\n{table}")


if __name__ == "__main__":
    main()
