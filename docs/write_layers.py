"""Write `extract/networks/layers.json`: the names of the layers of the commonest networks.

Usage: PYTHONPATH=. python docs/write_layers.py
"""

from __future__ import annotations

import json

from extract.networks.backbones import build_base
from extract.networks.graph import cuttable_layers
from extract.networks.known_layers import LAYERS, SIZE

NETWORKS = (
    "vgg16",
    "vgg19",
    "resnet50",
    "resnet50v2",
    "mobilenet",
    "mobilenetv2",
    "densenet121",
    "efficientnetb0",
)


def list_names(network: str) -> list[str]:
    """Return the layers that can be cut, from the pictures to the top."""
    base = build_base(network, size=SIZE, with_top=True)
    return [layer.name for layer in cuttable_layers(base)]


if __name__ == "__main__":
    lines = []
    for network in NETWORKS:
        names = json.dumps(list_names(network))
        lines.append(f" {json.dumps(network)}: {names}")
    text = ",\n".join(lines)
    LAYERS.write_text(f"{{\n{text}\n}}\n", encoding="utf-8")
