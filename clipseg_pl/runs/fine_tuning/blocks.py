"""Parts of a page, rendered as one self-contained HTML file or as Markdown with picture files."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import starmap
from pathlib import Path
from typing import TypeAlias

from clipseg_pl.atomic import write_text, write_whole

_CSS = """
:root { color-scheme: light dark; --line: color-mix(in srgb, CanvasText 18%, Canvas); }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; background: Canvas; color: CanvasText;
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; }
h2 { margin-top: 2.5rem; padding-top: .5rem; border-top: 1px solid var(--line); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; }
.tiles div { padding: .6rem .8rem; border: 1px solid var(--line); border-radius: .5rem; }
.tiles b { display: block; font-size: 1.7rem; line-height: 1.3; }
.tiles small { display: block; opacity: .75; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
caption { text-align: left; padding-bottom: .3rem; font-weight: 600; }
th, td { padding: .25rem .5rem; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; }
th { font-weight: 600; }
th:first-child, td:first-child { padding-left: 0; min-width: 7rem; text-align: left;
  overflow-wrap: anywhere; }
@media (max-width: 480px) { table { font-size: .85rem; } }
.note { padding: .6rem .8rem; border-left: 4px solid #e69f00; }
figure { margin: 0; }
figure svg, figure img { display: block; width: 100%; height: auto; }
.plots, .pictures { display: grid; gap: 1rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); }
.pictures { grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); }
.pictures img { border-radius: .3rem; }
figcaption { font-size: .9rem; }
pre { padding: .6rem .8rem; overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem;
  font-size: .85rem; }
summary { cursor: pointer; }
"""
_NOTE = ' class="note"'
_MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]|~#$])")


@dataclass(frozen=True)
class Heading:
    """Heading of a section."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; a note stands out."""

    text: str
    note: bool = False


@dataclass(frozen=True)
class Command:
    """A command to copy."""

    text: str


@dataclass(frozen=True)
class Tiles:
    """Main figures, as (label, value, detail)."""

    tiles: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Table:
    """A table. Columns without any value are left out."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def used(self) -> list[list[str]]:
        """Return the header and the rows without empty columns; the first column is kept."""
        used = [
            column
            for column in range(len(self.columns))
            if not column or any(row[column] for row in self.rows)
        ]
        return [[row[column] for column in used] for row in (self.columns, *self.rows)]


@dataclass(frozen=True)
class Plot:
    """A plot.

    Args:
        title: what it shows; not drawn.
        svg: SVG element with its text in the colour of the page.
        png: content of a PNG file, black on white.
    """

    title: str
    svg: str
    png: bytes


@dataclass(frozen=True)
class Plots:
    """Plots in a grid."""

    plots: Sequence[Plot]


@dataclass(frozen=True)
class Pictures:
    """PNG files with captions, in a grid."""

    pictures: Sequence[tuple[Path, str]]


@dataclass(frozen=True)
class Details:
    """A text that is folded away, such as a config."""

    summary: str
    text: str


Block: TypeAlias = Heading | Paragraph | Command | Tiles | Table | Plots | Pictures | Details


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """Return a page that contains its style, plots and pictures."""
    body = "\n".join(_html(block) for block in blocks)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def _html(block: Block) -> str:
    match block:
        case Heading(text):
            return f"<h2>{escape(text)}</h2>"
        case Paragraph(text, note):
            return f"<p{_NOTE if note else ''}>{escape(text)}</p>"
        case Command(text):
            return f"<pre>{escape(text)}</pre>"
        case Tiles(tiles):
            parts = (
                f"<div>{escape(label)}<b>{escape(value)}</b><small>{escape(detail)}</small></div>"
                for label, value, detail in tiles
            )
            return f'<div class="tiles">{"".join(parts)}</div>'
        case Table(title):
            return _html_table(title, *block.used())
        case Plots(plots):
            return f'<div class="plots">{"".join(map(_html_plot, plots))}</div>'
        case Pictures(pictures):
            return f'<div class="pictures">{"".join(starmap(_html_picture, pictures))}</div>'
        case Details(summary, text):
            folded = f"<summary>{escape(summary)}</summary><pre>{escape(text)}</pre>"
            return f"<details>{folded}</details>"


def _html_table(title: str, head: Sequence[str], *rows: Sequence[str]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    caption = f"<caption>{escape(title)}</caption>" if title else ""
    body = "".join(line(row, "td") for row in rows)
    return f'<div class="wide"><table>{caption}{line(head, "th")}{body}</table></div>'


def _html_plot(plot: Plot) -> str:
    label = f'<svg role="img" aria-label="{escape(plot.title)}"'
    return f"<figure>{plot.svg.replace('<svg', label, 1)}</figure>"


def _html_picture(file: Path, caption: str) -> str:
    data, text = base64.b64encode(file.read_bytes()).decode(), escape(caption)
    image = f'<img src="data:image/png;base64,{data}" alt="{text}">'
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"


def write_markdown(file: Path, title: str, blocks: Sequence[Block]) -> None:
    """Write a Markdown file, and its plots and pictures to a folder of the same name."""
    folder = file.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    parts = [f"# {_plain(title)}", *(_markdown(block, folder) for block in blocks)]
    write_text(file, "\n\n".join(parts) + "\n")


def _markdown(block: Block, folder: Path) -> str:
    match block:
        case Heading(text):
            return f"## {_plain(text)}"
        case Paragraph(text, note):
            return f"{'> ' if note else ''}{_plain(text)}"
        case Command(text):
            return _indented(text)
        case Tiles(tiles):
            return _markdown_table(("", "", ""), *tiles)
        case Table(title):
            heading = f"**{_plain(title)}**\n\n" if title else ""
            return heading + _markdown_table(*block.used())
        case Plots(plots):
            return "\n".join(
                _image(folder / f"{plot.title.replace(' ', '_')}.png", plot.png, plot.title)
                for plot in plots
            )
        case Pictures(pictures):
            return "\n\n".join(
                f"{_image(folder / file.name, file.read_bytes(), caption)}\n\n{_plain(caption)}"
                for file, caption in pictures
            )
        case Details(summary, text):
            title = f"<details><summary>{escape(summary)}</summary>"
            return f"{title}\n\n{_indented(text)}\n\n</details>"


def _markdown_table(head: Sequence[str], *rows: Sequence[str]) -> str:
    first, *others = ([_plain(cell) for cell in row] for row in (head, *rows))
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (first, rule, *others))


def _image(file: Path, content: bytes, description: str) -> str:
    write_whole(file, lambda stream: stream.write(content))
    return f"![{_plain(description)}]({file.parent.name}/{file.name})"


def _plain(text: str) -> str:
    """Escape a text on one line, so that Markdown shows it as it is."""
    return _MARKDOWN_SPECIAL.sub(r"\\\1", escape(" ".join(text.split()), quote=False))


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
