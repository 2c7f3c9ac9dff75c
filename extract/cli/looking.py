"""The commands that look before anybody pays: `plan`, `doctor` and `layers`."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from extract.console import (
    UNCHANGED,
    Config,
    Traceback,
    guarded,
    print_line,
    print_next,
    print_table,
)

if TYPE_CHECKING:
    from extract.checks.plan import BackbonePlan, Plan


def plan(
    config: Config,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
    seconds: Annotated[
        float, typer.Option(help="About how long the probe runs, in seconds.", min=0.1)
    ] = 8.0,
    allow_random_weights: Annotated[bool, typer.Option(help="As for `features`.")] = False,
    traceback: Traceback = False,
) -> None:
    """Predict what `features` would take now, in bytes and time, from a short run on a few tiles.

    Example: roofline plan --config examples/london.toml
    """
    with guarded(traceback=traceback, interrupted=UNCHANGED):
        from extract.checks.plan import plan_extraction
        from extract.settings import ExtractSettings, read_settings

        made = plan_extraction(
            read_settings(config, ExtractSettings),
            seconds=seconds,
            allow_random=allow_random_weights,
        )
        if as_json:
            print_line(json.dumps(asdict(made), indent=2))
        else:
            _print_plan(made)
            print_next(f"roofline features --config {config}")


def _print_plan(plan: Plan) -> None:
    from rich.filesize import decimal

    rows = []
    for backbone, part in plan.backbones.items():
        for name, cut in part.cuts.items():
            shape = " × ".join(map(str, cut.shape))
            rows.append((f"{backbone}/{name}", shape, decimal(cut.bytes), decimal(cut.all)))
    print_table(("cut", "row", "missing", "in all"), rows, title=f"{plan.tiles} tiles")
    for backbone, part in plan.backbones.items():
        print_line(f"{backbone}: {_describe_part(part)}")
    if plan.seconds:
        print_line(
            f"time: {plan.seconds:.0f} s, of which loading and compiling "
            f"{plan.startup_seconds:.0f} s; from a probe of {plan.probe_tiles} tiles, "
            f"{plan.verdict}"
        )
    enough = "enough" if plan.disk_free_bytes > plan.bytes else "NOT ENOUGH"
    print_line(
        f"disk: {decimal(plan.bytes)} needed, {decimal(plan.disk_free_bytes)} free: {enough}; "
        f"memory: {decimal(plan.peak_rss_bytes)}"
    )


def _describe_part(part: BackbonePlan) -> str:
    if part.is_imported:
        return "imported, nothing to do"
    if not part.missing_tiles:
        return "complete"
    return (
        f"{part.missing_tiles} tiles in {part.missing_shards} of {part.shards} shards; alone "
        f"{part.seconds:.0f} s, {part.precision} by {part.runtime} on {part.device}"
    )


def doctor(config: Config, traceback: Traceback = False) -> None:
    """Check table, pictures, device, weights, disk and memory; exit code 1 where one is not fit.

    Example: roofline doctor --config examples/london.toml
    """
    with guarded(traceback=traceback, interrupted=UNCHANGED):
        from extract.checks.doctor import examine, refuse
        from extract.settings import ExtractSettings, read_settings

        checks = []
        for check in examine(read_settings(config, ExtractSettings)):
            print_line(f"{check.state:4}  {check.name}: {check.text}")
            checks.append(check)
        refuse(checks)
        print_next(f"roofline plan --config {config}")


def layers(
    backbone: Annotated[str, typer.Argument(help="As vgg16, resnet50v2, mobilenetv2.")],
    size: Annotated[int, typer.Option(help="Side of the pictures, in pixels.")] = 224,
    traceback: Traceback = False,
) -> None:
    """List the layers of a backbone that can be cut, with sizes and FLOPs to there.

    Example: roofline layers vgg16
    """
    with guarded(traceback=traceback, interrupted="stopped."):
        _list_layers(backbone, size)
        print_next(f"write cuts, as '{backbone}/LAYER:avg', into [extract] cuts of the settings")


def _list_layers(backbone: str, size: int) -> None:
    from extract.config.cuts import PIXELS, parse_cut
    from extract.networks.registry import find_backbone

    if backbone == PIXELS:
        print_line(
            f"{PIXELS}: no network. A cut's layer is the side that pictures are resized to, as "
            f"'{PIXELS}/100:map'."
        )
        return
    find_backbone(backbone)  # refuses a name before seconds of loading
    from extract.networks.backbones import build_base
    from extract.networks.graph import cuttable_layers, flops_to

    base = build_base(backbone, size=size, with_top=True)
    rows = []
    for layer in cuttable_layers(base):
        shape = layer.output.shape[1:]
        cut = parse_cut(f"{backbone}/{layer.name}:avg")
        sides = " × ".join(map(str, shape))
        flops = flops_to(base, layer.name) / 1e9
        n_bytes = 2 * math.prod(shape)
        rows.append((cut.layer, sides, str(2 * shape[-1]), str(n_bytes), f"{flops:.2f}"))
    titles = ("layer", "shape", "avg, max [B]", "flat, map [B]", "GFLOP to there")
    print_table(titles, rows, title=f"{backbone}, float16 bytes a tile, {size} × {size}")
