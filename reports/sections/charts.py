"""Encodings that several charts of the page share."""

from __future__ import annotations

from typing import Any

import altair as alt

# Okabe and Ito 2008, "Color Universal Design".
BLUE = "#0072B2"
ORANGE = "#D55E00"
PURPLE = "#CC79A7"
LOWEST_R2 = -0.5  # worse scores are drawn here, so that they do not stretch the axis


def categories(field: str, colours: dict[str, str], **channels: list[Any]) -> dict[str, Any]:
    """Return encodings that tell categories apart by colour and by a second channel.

    Parameters
    ----------
    colours : the colour of each category, in the order of the legend.
    channels : `shape` or `strokeDash`, with one value a category.
    """
    names = list(colours)
    scale = alt.Scale(domain=names, range=list(colours.values()))
    encodings: dict[str, Any] = {
        "color": alt.Color(field, title=None, scale=scale, legend=alt.Legend(orient="top"))
    }
    classes = {"shape": alt.Shape, "strokeDash": alt.StrokeDash}
    for channel, values in channels.items():
        scale = alt.Scale(domain=names, range=values)
        encodings[channel] = classes[channel](field, title=None, scale=scale)
    return encodings


def solid_and_dashed(field: str, solid: str, dashed: str) -> dict[str, Any]:
    """Return encodings of two lines: blue and solid, orange and dashed."""
    return categories(field, {solid: BLUE, dashed: ORANGE}, strokeDash=[[1, 0], [5, 3]])


def tooltips(*names: str, **formats: str) -> list[alt.Tooltip]:
    """Return tooltips of columns of text, and of columns of numbers with their formats."""
    texts = [alt.Tooltip(f"{name}:N") for name in names]
    return texts + [alt.Tooltip(f"{name}:Q", format=form) for name, form in formats.items()]


def name_axis(field: str, sort: Any) -> alt.Y:
    """Return an axis of names, one below the other, long ones shortened."""
    return alt.Y(field, sort=sort, title=None, axis=alt.Axis(labelLimit=260))


def add_menu(chart: alt.Chart, field: str, options: list[str], first: str) -> alt.Chart:
    """Draw the rows of one value of a field, chosen in a menu."""
    name = f"menu_{field}"
    menu = alt.param(name, bind=alt.binding_select(options=options, name=f"{field} "), value=first)
    return chart.add_params(menu).transform_filter(f"datum.{field} === {name}")
