"""A page as a list of sections, in the theme of the report. Each section is made by a function of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from conveyor.report.wording import plain

Text = str | Markup  # what is no Markup is foreign text: it is escaped
WHY = 600  # characters of a reason


@dataclass(frozen=True)
class Fact:
    """A tile of the page: a name, a short value, what it means, and a tone of the style sheet or none."""

    name: str
    value: str
    note: str
    tone: str = ""


@dataclass(frozen=True)
class Head:
    """The head of a page.

    Attributes:
        title: of the window.
        eyebrow: what the page is of.
        tone: of the style sheet: good, even, warn or bad.
        badge, headline, sentence: what the page says, in a word, a title and a sentence.
        made: when the page was made.
        facts: its tiles.
        links: to other pages: text and address, which is empty for this page.
    """

    title: str
    eyebrow: str
    tone: str
    badge: str
    headline: str
    sentence: str
    made: str
    facts: tuple[Fact, ...] = ()
    links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Section:
    """A part of a page: a name that is unique there, a title, and HTML in which foreign text is escaped."""

    name: str
    title: str
    body: Markup


@cache
def templates() -> jinja2.Environment:
    """The templates of the pages; all of them extend base.html.j2, which holds the one style sheet."""
    found = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
    )
    found.filters |= {"plain": plain, "svg": Markup}
    return found


def document(head: Head, sections: Sequence[Section]) -> str:
    """The page as HTML, which needs no script and no network."""
    return templates().get_template("sections.html.j2").render(head=head, sections=sections)


def joined(*parts: Text) -> Markup:
    """The parts one after another."""
    return Markup("\n").join(map(shown, parts))


def note(text: Text) -> Markup:
    """A paragraph in small letters."""
    return Markup('<p class="note">{}</p>').format(shown(text))


def items(lines: Sequence[Text]) -> Markup:
    """A list."""
    return Markup("<ul>\n{}\n</ul>").format(Markup("\n").join(Markup("<li>{}</li>").format(shown(e)) for e in lines))


def small(text: Text) -> Markup:
    """A second line of a cell; nothing if there is no text."""
    return Markup("<small>{}</small>").format(shown(text)) if text else Markup("")


def code(text: str) -> Markup:
    return Markup("<code>{}</code>").format(plain(text))


def kept(text: str) -> Markup:
    """A text of a cell, of which no word is broken, and "to" stays with the word behind it."""
    parts = re.findall(r"(?:to )?\S+", plain(text))
    return Markup(" ").join(Markup("<span>{}</span>").format(part) for part in parts)


def lines(*parts: Text) -> Markup:
    """The parts below each other, without those that are empty."""
    return Markup("<br>\n").join(shown(part) for part in parts if part)


def pairs(rows: Sequence[tuple[str, Text]]) -> Markup:
    """Names with their values."""
    made = [Markup("<dt>{}</dt><dd>{}</dd>").format(plain(name), shown(value)) for name, value in rows]
    return Markup('<dl class="pairs">\n{}\n</dl>').format(Markup("\n").join(made))


def link(text: Text, to: str | None) -> Markup:
    """A link to a page of the same site; the text alone without one."""
    return Markup('<a href="{}">{}</a>').format(to, shown(text)) if to else shown(text)


def web(text: Text, url: str | None) -> Markup:
    """A link to an address that others wrote; the text alone if it is no address of the web."""
    return link(text, url if url and url.startswith(("https://", "http://")) else None)


def shown(text: Text) -> Markup:
    """One line of escaped text; Markup stays as it is."""
    return text if isinstance(text, Markup) else escape(plain(text, WHY))


def table(columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> Markup:
    """A table whose first column names its rows.

    Args:
        columns: the titles: of numbers if one begins with "#", of long text if it begins with "…".
        rows: the cells of each.
    """
    classes = ["n" if name[:1] == "#" else "text" if name[:1] == "…" else "" for name in columns]
    heads = [
        Markup('<th scope="col"{}>{}</th>').format(_class(kind), plain(name.lstrip("#…")))
        for kind, name in zip(classes, columns, strict=True)
    ]
    lines = []
    for first, *others in rows:
        cells = [Markup('<th scope="row" class="name">{}</th>').format(shown(first))]
        cells += [Markup("<td{}>{}</td>").format(_class(k), shown(c)) for k, c in zip(classes[1:], others, strict=True)]
        lines.append(Markup("<tr>{}</tr>").format(Markup("").join(cells)))
    body = Markup("\n").join(lines)
    return Markup("<table>\n<thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody>\n</table>").format(
        Markup("").join(heads), body
    )


def _class(kind: str) -> Markup:
    return Markup(' class="{}"').format(kind) if kind else Markup("")


def figure(title: str, wide: str, narrow: str, caption: Text) -> Markup:
    """A picture for wide screens, and the same for narrow ones, with title and caption."""
    drawn = [
        Markup(svg.replace("<svg ", f'<svg class="{kind}" ', 1)) for kind, svg in (("wide", wide), ("narrow", narrow))
    ]
    return Markup("<figure>\n<h3>{}</h3>\n{}\n{}\n<figcaption>{}</figcaption>\n</figure>").format(
        plain(title), *drawn, shown(caption)
    )
