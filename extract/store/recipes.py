"""What the numbers of embeddings depend on beside the pictures, held against the settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from extract.errors import EmbeddingsError
from extract.settings import ExtractSettings
from extract.store.schema import ShardAttributes, read_attributes

IMPORTED = "imported"  # in place of the weights where the vectors come from elsewhere


def describe_recipe(settings: ExtractSettings, backbone: str) -> dict[str, Any]:
    """Return what the numbers of a row depend on, as JSON."""
    extract = settings.extract
    same = extract.model_dump(mode="json", include={"size", "precision", "runtime", "dtype"})
    return {
        "cuts": [str(cut) for cut in extract.cuts_of(backbone)],
        "weights": Path(extract.weights_of(backbone)).name,
        **same,
        "max_pixels": settings.tiles.max_pixels,
        **settings.tiles.look,
    }


def list_lacking(attributes: ShardAttributes, recipe: dict[str, Any]) -> list[str]:
    """Return the cuts of a recipe that a file was made without."""
    made = json.loads(attributes.get("recipe", "{}")).get("cuts", [])
    return [cut for cut in recipe["cuts"] if cut not in made]


def compare_recipes(attributes: ShardAttributes, recipe: dict[str, Any]) -> str:
    """Describe in what a file was made otherwise than by a recipe; empty where they agree.

    Cuts that the recipe has beside those of the file are no difference: `list_lacking` lists them.
    """
    made = {"runtime": "auto", **json.loads(attributes.get("recipe", "{}"))}
    if set(made.get("cuts", [])) <= set(recipe.get("cuts", [])):
        made["cuts"] = recipe.get("cuts")
    # once the whole path, which another machine need not have
    made["weights"] = Path(str(made.get("weights"))).name
    return "; ".join(
        f"{key} was {made.get(key)!r}, now {value!r}"
        for key, value in recipe.items()
        if made.get(key) != value
    )


def check_recipes(settings: ExtractSettings) -> None:
    """Check that the features that are there were made as the settings say.

    Which cuts they have, and of which tiles, is for the reader to check.

    Raises
    ------
    EmbeddingsError : they were made with another size, precision, runtime, type or look.
    """
    for backbone in settings.extract.backbones:
        path = settings.folder / "features" / f"{backbone}.h5"
        if not path.is_file():
            continue
        attributes = read_attributes(path)
        made = json.loads(attributes.get("recipe", "{}"))
        recipe = describe_recipe(settings, backbone)
        asked = {key: recipe[key] for key in recipe if key in made and key != "cuts"}
        differs = compare_recipes(attributes, asked)
        if differs:
            raise EmbeddingsError(
                f"{path}: made with other settings: {differs}. Restore that setting, or make the "
                "features anew (`make features FRESH=1`; what was imported: import it again)."
            )
