"""One self-contained HTML page of sections with figures, tables and notes: no script, no request, all text escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dtb.theme import themed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 170  # sharp on a laptop's screen at twice the size of CSS pixels, and in print
MAX_VECTOR = 250_000  # bytes of an SVG; beyond it a PNG is smaller and quicker to draw
MAX_WORD = 30  # characters without a space, from which a cell may be broken anywhere
WIDTH = 9.4  # inches of a figure that fills the column


@dataclass(frozen=True)
class Plate:
    """A figure as it stands on a page: its picture, what it shows in words, its caption."""

    picture: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Table:
    """Rows of text under a head; the columns in `numbers` are set to the right."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[int] = frozenset()

    @property
    def small(self) -> bool:
        """Two columns, one of numbers: they stand side by side, not at the ends of the page."""
        return len(self.head) == 2 and bool(self.numbers)


@dataclass(frozen=True)
class Note:
    """What is missing, and why; or what must not be read out of what is there."""

    text: str


@dataclass(frozen=True)
class Listing:
    """Text as it is, such as a config."""

    title: str
    text: str


@dataclass
class Section:
    """A part of the page with its place in the table of contents."""

    anchor: str
    title: str
    lead: str = ""
    parts: list[Plate | Table | Note | Listing] = field(default_factory=list)

    def add(self, parts: Iterable[Plate | Table | Note | Listing]) -> Section:
        self.parts.extend(parts)
        return self


def plate(figure: Figure | bytes, alt: str, caption: str, vector: bool = False) -> Plate:
    """A matplotlib figure, or a PNG, as a picture inside the page; a figure as SVG if that is asked for and small."""
    if isinstance(figure, bytes):
        return Plate(data_uri("image/png", figure), alt, caption)
    picture = ""
    with themed():
        if vector:
            drawn = io.BytesIO()
            figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
            if drawn.tell() <= MAX_VECTOR:
                picture = data_uri("image/svg+xml", drawn.getvalue())
        if not picture:
            picture = data_uri("image/png", png(figure))
    figure.clear()
    return Plate(picture, alt, caption)


def png(figure: Figure) -> bytes:
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI, metadata={"Software": None})
    return drawn.getvalue()


def data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def blank(height: float, width: float = WIDTH, **keywords: Any) -> Figure:
    """A figure of its own, outside of pyplot, so that nothing of the caller's is touched."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), **keywords)


def render(title: str, summary_line: str, tiles: Sequence[tuple[str, str, str]], sections: Sequence[Section]) -> str:
    """The page; every text in it is escaped, whatever it holds.

    Parameters
    ----------
    title, summary_line : str
    tiles : (value, unit, name)
        The numbers at the top.
    sections : Section
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dtb.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["plate"] = lambda part: isinstance(part, Plate)
    environment.tests["table"] = lambda part: isinstance(part, Table)
    environment.tests["note"] = lambda part: isinstance(part, Note)
    environment.tests["unbroken"] = lambda text: max(map(len, text.split()), default=0) > MAX_WORD
    page = environment.get_template("report.html")
    return page.render(title=title, summary_line=summary_line, tiles=tiles, sections=sections)
