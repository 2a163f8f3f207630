"""A drawing as SVG, to stand inline in HTML: no script, no style, no address."""

from html import escape

from bc_model.export.drawing import Box, Dot, Drawing, Label, Line, Shape


def to_svg(drawing: Drawing) -> str:
    """Return an ``<svg>`` element that scales with its place."""
    shapes = "".join(map(_shape, drawing.shapes))
    return (
        f'<svg viewBox="0 0 {drawing.width:g} {drawing.height:g}" role="img" '
        f'aria-label="{escape(drawing.alt)}">{shapes}</svg>'
    )


def _shape(shape: Shape) -> str:
    match shape:
        case Line():
            points = " ".join(f"{_n(x)},{_n(y)}" for x, y in shape.points)
            dash = f' stroke-dasharray="{shape.dash[0]:g} {shape.dash[1]:g}"' if shape.dash else ""
            return (
                f'<polyline points="{points}" fill="none" stroke="{shape.colour}" '
                f'stroke-width="{shape.width:g}" stroke-linejoin="round"{dash}/>'
            )
        case Box():
            return (
                f'<rect x="{_n(shape.x)}" y="{_n(shape.y)}" width="{_n(shape.width)}" '
                f'height="{_n(shape.height)}" rx="{shape.radius:g}" fill="{shape.colour}"/>'
            )
        case Dot():
            return (
                f'<circle cx="{_n(shape.x)}" cy="{_n(shape.y)}" r="{shape.radius:g}" '
                f'fill="{shape.colour}" fill-opacity="{shape.opacity:g}" stroke="#ffffff" '
                'stroke-width="1"/>'
            )
        case Label():
            turn = f' transform="rotate(-90 {_n(shape.x)} {_n(shape.y)})"' if shape.upwards else ""
            weight = ' font-weight="600"' if shape.bold else ""
            return (
                f'<text x="{_n(shape.x)}" y="{_n(shape.y)}" font-size="{shape.size:g}" '
                f'fill="{shape.colour}" text-anchor="{shape.anchor}"{weight}{turn}>'
                f"{escape(shape.text)}</text>"
            )


def _n(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")
