"""A document as one HTML file: it asks for nothing else, runs nothing, and prints well."""

from html import escape

from bc_model.export.document import (
    Block,
    Charts,
    Document,
    Facts,
    Heading,
    KeyFigures,
    Notice,
    Table,
    Text,
)
from bc_model.export.svg import to_svg

_STYLE = """
:root { --ink: #1b2a30; --quiet: #5b6b73; --line: #d7e0e3; --accent: #0b6e75; --soft: #f3f6f7;
  --grave: #9a3b00; --grave-soft: #fdf3ec; }
* { box-sizing: border-box; }
body { margin: 0; background: #ffffff; color: var(--ink); line-height: 1.5; font-size: 15px;
  font-family: "Source Sans 3", "Source Sans Pro", "Segoe UI", system-ui, -apple-system,
  "Helvetica Neue", Arial, sans-serif; -webkit-text-size-adjust: 100%; }
main { max-width: 940px; margin: 0 auto; padding: 40px 28px 56px; }
header { border-bottom: 3px solid var(--accent); padding-bottom: 14px; margin-bottom: 22px; }
h1 { font-size: 28px; font-weight: 600; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em;
  overflow-wrap: anywhere; }
header p { margin: 0; color: var(--quiet); }
h2 { font-size: 19px; font-weight: 600; margin: 38px 0 12px; }
h3 { font-size: 14px; font-weight: 600; margin: 0 0 4px; color: var(--quiet); }
p { margin: 10px 0; max-width: 76ch; }
.quiet { color: var(--quiet); font-size: 13.5px; }
.notice { border-left: 4px solid var(--accent); background: var(--soft); padding: 12px 18px;
  margin: 14px 0; border-radius: 0 6px 6px 0; }
.notice.grave { border-left-color: var(--grave); background: var(--grave-soft); }
.notice.grave strong { color: var(--grave); }
.notice p, .notice ul { margin: 4px 0 0; max-width: none; }
.notice ul { padding-left: 18px; }
.keys { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px;
  margin: 22px 0; }
.key { border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; }
.key span { display: block; color: var(--quiet); font-size: 13.5px; }
.key b { display: block; font-size: 31px; line-height: 1.25; font-weight: 600; color: var(--accent);
  font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: 14px; margin: 10px 0;
  font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--quiet); border-bottom: 2px solid var(--line);
  padding: 6px 10px 6px 0; vertical-align: bottom; }
td { border-bottom: 1px solid var(--line); padding: 6px 10px 6px 0; vertical-align: top;
  overflow-wrap: break-word; }
th.n, td.n { text-align: right; padding-right: 18px; white-space: nowrap; }
td:first-child { font-weight: 600; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(330px, 1fr)); gap: 26px;
  margin: 18px 0; }
figure { margin: 0; }
figure.alone { max-width: 430px; }
figure.broad { max-width: none; }
svg { display: block; width: 100%; height: auto; font-family: inherit; }
dl { display: grid; grid-template-columns: minmax(120px, 170px) 1fr; margin: 10px 0;
  font-size: 14px; }
dt, dd { padding: 6px 0; border-bottom: 1px solid var(--line); margin: 0; }
dt { color: var(--quiet); }
dd { overflow-wrap: anywhere; }
footer { margin-top: 44px; padding-top: 12px; border-top: 1px solid var(--line);
  color: var(--quiet); font-size: 13px; }
@media print {
  body { font-size: 11.5px; }
  main { padding: 0; max-width: none; }
  h2 { break-after: avoid; }
  figure, .notice, .keys, tr, dl > * { break-inside: avoid; }
}
"""
# Whatever a text may hold, a browser that reads this policy loads nothing and runs nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_BROAD = 600


def to_html(document: Document) -> str:
    """Return a document as the text of one HTML file."""
    title = escape(document.title)
    blocks = "\n".join(map(_block, document.blocks))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<header>\n<h1>{title}</h1>\n<p>{escape(document.subtitle)}</p>\n</header>\n"
        f"{blocks}\n<footer>{escape(document.footer)}. Model made "
        f"{escape(document.created)}.</footer>\n</main>\n</body>\n</html>\n"
    )


def _block(block: Block) -> str:
    match block:
        case Heading():
            return f"<h2>{escape(block.text)}</h2>"
        case Text():
            quiet = ' class="quiet"' if block.quiet else ""
            return f"<p{quiet}>{escape(block.text)}</p>"
        case Notice():
            return _notice(block)
        case KeyFigures():
            keys = "".join(
                f'<div class="key"><span>{escape(one.name)}</span><b>{escape(one.value)}</b>'
                f"<span>{escape(one.interval)}</span><span>{escape(one.support)}</span></div>"
                for one in block.figures
            )
            return f'<div class="keys">{keys}</div>'
        case Facts():
            pairs = "".join(
                f"<dt>{escape(name)}</dt><dd>{escape(what)}</dd>" for name, what in block.pairs
            )
            return f"<dl>{pairs}</dl>"
        case Table():
            return _table(block)
        case Charts():
            return _charts(block)


def _notice(notice: Notice) -> str:
    if len(notice.sentences) == 1:
        body = f"<p>{escape(notice.sentences[0])}</p>"
    else:
        body = "<ul>" + "".join(f"<li>{escape(s)}</li>" for s in notice.sentences) + "</ul>"
    grave = " grave" if notice.grave else ""
    return f'<div class="notice{grave}"><strong>{escape(notice.title)}</strong>{body}</div>'


def _table(table: Table) -> str:
    def cells(tag: str, row: tuple[str, ...]) -> str:
        opened = {True: f'<{tag} class="n">', False: f"<{tag}>"}
        return "".join(
            f"{opened[k in table.numeric]}{escape(cell)}</{tag}>" for k, cell in enumerate(row)
        )

    head = f"<thead><tr>{cells('th', table.columns)}</tr></thead>"
    rows = "".join(f"<tr>{cells('td', row)}</tr>" for row in table.rows)
    return f'<div class="wide"><table>{head}<tbody>{rows}</tbody></table></div>'


def _charts(block: Charts) -> str:
    figures = []
    for chart in block.charts:
        name = "broad" if chart.drawing.width > _BROAD else "alone"
        caption = f'<p class="quiet">{escape(chart.caption)}</p>' if chart.caption else ""
        figures.append(
            f'<figure class="{name}"><h3>{escape(chart.title)}</h3>'
            f"{to_svg(chart.drawing)}{caption}</figure>"
        )
    return f'<div class="charts">{"".join(figures)}</div>'
