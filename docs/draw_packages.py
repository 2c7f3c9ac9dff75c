"""Draw the packages and their imports into `architecture.md`, and fail on a circle.

Usage: python docs/draw_packages.py          (or `make packages`)
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp

TOP = ("extract", "models", "reports")
PAGE = Path(__file__).with_name("architecture.md")
MARKERS = re.compile(r"(<!-- packages: begin -->\n).*(<!-- packages: end -->)", re.DOTALL)

Graph = dict[str, set[str]]


def read_packages(top: str) -> Graph:
    """Return each direct child of a package, and which of its siblings it imports."""
    imports = grimp.build_graph(top, cache_dir=None)
    packages: Graph = defaultdict(set)
    for module in imports.modules:
        importer = _child(module, top)
        if not importer or importer.startswith("__"):
            continue
        packages[importer] |= set()
        for imported in imports.find_modules_directly_imported_by(module):
            sibling = _child(imported, top)
            if sibling and sibling != importer:
                packages[importer].add(sibling)
    return dict(packages)


def _child(module: str, top: str) -> str:
    parts = module.split(".")
    return parts[1] if parts[0] == top and len(parts) > 1 else ""


def drop_implied(packages: Graph) -> Graph:
    """Drop the imports that a longer way of imports implies (transitive reduction)."""
    return {
        importer: {
            imported
            for imported in direct
            if not any(imported in _reach(packages, other) for other in direct - {imported})
        }
        for importer, direct in packages.items()
    }


def _reach(packages: Graph, start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for imported in packages.get(waiting.pop(), set()) - found:
            found.add(imported)
            waiting.append(imported)
    return found


def render_mermaid(graphs: dict[str, Graph]) -> str:
    """Return the graphs as one Mermaid flow chart: an arrow points at what is imported."""
    lines = ["```mermaid", "flowchart TD"]
    for top, packages in graphs.items():
        lines.append(f"  subgraph {top}")
        lines += [f'    {top}.{name}["{name}"]' for name in sorted(packages)]
        for importer, direct in sorted(packages.items()):
            lines += [f"    {top}.{importer} --> {top}.{name}" for name in sorted(direct)]
        lines.append("  end")
    lines += ["  reports ==> models", "  models ==> extract", "```"]
    return "\n".join(lines) + "\n"


def draw() -> str:
    """Return the picture of the checkout.

    Raises
    ------
    graphlib.CycleError : packages that import each other in a circle.
    """
    graphs = {}
    for top in TOP:
        packages = read_packages(top)
        TopologicalSorter(packages).prepare()
        graphs[top] = drop_implied(packages)
    return render_mermaid(graphs)


def main() -> None:
    """Write the picture between its two markers."""
    try:
        picture = draw()
    except CycleError as error:
        sys.exit(f"packages import each other in a circle: {' -> '.join(error.args[1])}")
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(MARKERS.sub(rf"\g<1>{picture}\g<2>", text), encoding="utf-8")
    print(f"{PAGE}: drawn, no circle")


if __name__ == "__main__":
    main()
