"""The targets that an option names."""

from __future__ import annotations

from extract.config.suggestions import suggest
from extract.errors import OptionError
from models.settings import FitSettings


def list_targets(settings: FitSettings, target: str | None) -> list[str]:
    """Return the target that is asked for, or all; refuse one that the settings do not have."""
    known = settings.targets.names
    if target is None:
        return known
    if target not in known:
        raise OptionError(
            f"target {target!r}: unknown; known: {', '.join(known)}.{suggest(target, known)}"
        )
    return [target]
