"""A page of blocks, written as one self-contained HTML file or as Markdown.

    page = Page("tiny", [Section("Data", [Table(("domain", "documents"), [["code", "812"]])])])
    html(page)             -> "<!doctype html>...", styles and figures inside, no script at all
    markdown(page)         -> "# tiny\\n\\n## Data\\n\\n| domain | documents | ...", figures by name

Both come from the same blocks, so neither can say what the other does not. All text is data: it is
escaped where it is written, and the blocks hold none of either language but a figure's SVG, which
`figures.py` makes.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from baiwen.report.words import printable

STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Cards:
    """The few numbers that matter most: (what, number, remark)."""

    cards: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Table:
    """Rows under a heading, all of one length; `source` names the files its numbers are from."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    source: str = ""


@dataclass(frozen=True)
class Figure:
    """A drawing; `name` is its file beside the Markdown, `alt` says in words what it shows."""

    name: str
    svg: str
    alt: str
    source: str = ""


@dataclass(frozen=True)
class Code:
    """Text as it stands; folded under `summary` where there is one."""

    text: str
    summary: str = ""


@dataclass(frozen=True)
class Sample:
    """A question as a model met it: its verdict, and each part of it under a label."""

    title: str
    verdict: str
    parts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Samples:
    """Samples side by side, as many as the page is wide."""

    samples: Sequence[Sample]
    source: str = ""


Block = Text | Cards | Table | Figure | Code | Samples


@dataclass(frozen=True)
class Section:
    """Blocks under a title."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A title and its sections."""

    title: str
    sections: Sequence[Section]


def html(page: Page) -> str:
    """The page as one HTML file that needs nothing else."""
    links = "".join(
        f'<a href="#s{index}">{_text(section.title)}</a>'
        for index, section in enumerate(page.sections)
    )
    body = "".join(
        f'<section id="s{index}"><h2>{_text(section.title)}</h2>'
        f"{''.join(map(_html, section.blocks))}</section>"
        for index, section in enumerate(page.sections)
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{_text(page.title)}</title><style>\n{STYLE}</style></head>\n"
        f"<body><header><h1>{_text(page.title)}</h1><nav>{links}</nav></header>"
        f"<main>{body}</main></body></html>\n"
    )


def markdown(page: Page) -> str:
    """The page as Markdown; figures are linked by `figures(page)`'s names."""
    parts = [f"# {_plain(page.title)}"]
    for section in page.sections:
        parts += [f"## {_plain(section.title)}", *map(_markdown, section.blocks)]
    return "\n\n".join(parts) + "\n"


def figures(page: Page) -> dict[str, str]:
    """The SVG of every figure by the file name that the Markdown gives it."""
    blocks = [block for section in page.sections for block in section.blocks]
    return {block.name: block.svg for block in blocks if isinstance(block, Figure)}


def _html(block: Block) -> str:
    write: dict[type, Callable[..., str]] = {
        Text: lambda block: f"<p>{_text(block.text)}</p>",
        Cards: _html_cards,
        Table: _html_table,
        Figure: _html_figure,
        Code: _html_code,
        Samples: _html_samples,
    }
    return write[type(block)](block) + "\n"


def _html_cards(cards: Cards) -> str:
    return f'<div class="cards">{"".join(map(_html_card, cards.cards))}</div>'


def _html_card(card: tuple[str, str, str]) -> str:
    what, number, remark = map(_text, card)
    return f"<div><span>{what}</span><strong>{number}</strong><small>{remark}</small></div>"


def _html_table(table: Table) -> str:
    columns = zip(*table.rows, strict=True)
    marks = [' class="n"' if _is_numeric(column) else "" for column in columns]
    marks = marks or [""] * len(table.head)
    head = _html_row("th", table.head, marks)
    rows = "".join(_html_row("td", row, marks) for row in table.rows)
    return (
        f'<div class="table"><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>'
        f"{_html_source(table.source)}"
    )


def _html_row(tag: str, cells: Sequence[str], marks: Sequence[str]) -> str:
    written = (
        f"<{tag}{mark}>{_text(cell)}</{tag}>" for cell, mark in zip(cells, marks, strict=True)
    )
    return f"<tr>{''.join(written)}</tr>"


def _is_numeric(column: Sequence[str]) -> bool:
    """Whether a column's cells are numbers, with what belongs to them: such are set flush right."""
    return all(re.match(r"[-+<]? ?[\d.]|$", cell) for cell in column) and any(column)


def _html_figure(figure: Figure) -> str:
    drawing = f'<div class="svg" role="img" aria-label="{_text(figure.alt)}">{figure.svg}</div>'
    return f"<figure>{drawing}{_html_source(figure.source)}</figure>"


def _html_code(code: Code) -> str:
    text = f"<pre>{_text(code.text)}</pre>"
    if not code.summary:
        return text
    return f"<details><summary>{_text(code.summary)}</summary>{text}</details>"


def _html_samples(samples: Samples) -> str:
    cards = "".join(map(_html_sample, samples.samples))
    return f'<div class="samples">{cards}</div>{_html_source(samples.source)}'


def _html_sample(sample: Sample) -> str:
    parts = "".join(f"<dt>{_text(a)}</dt><dd><pre>{_text(b)}</pre></dd>" for a, b in sample.parts)
    kind = "right" if sample.verdict == "right" else "wrong"
    return (
        f'<article class="{kind}"><h3>{_text(sample.title)} '
        f"<em>{_text(sample.verdict)}</em></h3><dl>{parts}</dl></article>"
    )


def _html_source(source: str) -> str:
    return f'<p class="source">from {_text(source)}</p>' if source else ""


def _text(text: str) -> str:
    return escape(printable(text))


def _markdown(block: Block) -> str:
    write: dict[type, Callable[..., str]] = {
        Text: lambda block: _plain(block.text),
        Cards: lambda block: _markdown_table(Table(("", "", ""), block.cards)),
        Table: _markdown_table,
        Figure: lambda block: f"![{_plain(block.alt)}]({block.name}){_source(block.source)}",
        Code: _markdown_code,
        Samples: _markdown_samples,
    }
    return write[type(block)](block)


def _markdown_table(table: Table) -> str:
    head, *rows = (f"| {' | '.join(map(_plain, row))} |" for row in (table.head, *table.rows))
    rule = "|" + " --- |" * len(table.head)
    return "\n".join([head, rule, *rows]) + _source(table.source)


def _markdown_code(code: Code) -> str:
    return (f"{_plain(code.summary)}\n\n" if code.summary else "") + _fenced(code.text)


def _markdown_samples(samples: Samples) -> str:
    return "\n\n".join(map(_markdown_sample, samples.samples)) + _source(samples.source)


def _markdown_sample(sample: Sample) -> str:
    parts = [f"{_plain(label)}\n\n{_fenced(text)}" for label, text in sample.parts]
    return "\n\n".join([f"**{_plain(sample.title)}: {_plain(sample.verdict)}**", *parts])


def _source(source: str) -> str:
    return f"\n\n*from {_plain(source)}*" if source else ""


def _fenced(text: str) -> str:
    longest = max((len(ticks) for ticks in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{printable(text)}\n{fence}"


def _plain(text: str) -> str:
    """Text on one line that Markdown shows as it stands."""
    line = " ".join(printable(text).split())
    return re.sub(r"([\\`*_{}\[\]<>#|~$!])", r"\\\1", line).replace("&", "&amp;")
