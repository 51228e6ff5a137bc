"""A page that shows pictures or plays clips in a browser: plain HTML beside their files.

It has no scripts, and needs neither a server nor a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

from arzoo.viz.settings import MP4

PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src 'self' file: data:; media-src 'self' \
file:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; font: 1rem/1.4 system-ui, sans-serif }}
body {{ display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 16rem), 1fr)) }}
h1, h2, .wide, section {{ grid-column: 1 / -1 }}
h1, h2 {{ margin: 0; font-size: 1.2rem }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: anywhere }}
th, td {{ padding: 0 1.5rem 0 0; text-align: left; vertical-align: top; font-weight: normal }}
.wide img {{ width: auto; max-width: 100%; image-rendering: auto }}
figure {{ margin: 0; overflow-wrap: anywhere }}
video, img {{ width: 100%; image-rendering: pixelated }}
.frames {{ display: flex; gap: 2px; overflow-x: auto }}
.frames img {{ width: 8rem; flex: none }}
</style>
<h1>{title}</h1>
{content}
</html>
"""
"""The policy lets nothing but files beside the page be loaded; `file:` is for browsers to which each file is an origin
of its own. The empty icon spares a request."""


@dataclass(frozen=True)
class Figure:
    """A picture or clip on a page.

    Attributes:
        files: Its file, or those of its frames, relative to the page.
        caption: What it shows.
        details: Smaller text after it.
        wide: Take a row of its own.
    """

    files: Sequence[str]
    caption: str
    details: str = ""
    wide: bool = False

    def html(self) -> str:
        """Return the element; the details lead to the first file."""
        links, name = [quote(file) for file in self.files], escape(self.caption)
        if self.files[0].lower().endswith(MP4):
            shown = f'<video src="{links[0]}" aria-label="{name}" autoplay loop muted playsinline controls></video>'
        elif len(links) == 1:
            shown = f'<img src="{links[0]}" alt="{name}">'
        else:
            frames = "".join(f'<img src="{link}" alt="frame {t}">' for t, link in enumerate(links))
            shown = f'<div class="frames" role="group" aria-label="{name}" tabindex="0">{frames}</div>'
        details = f'<a href="{links[0]}"><small>{escape(self.details or self.files[0])}</small></a>'
        kind = ' class="wide"' if self.wide else ""
        return f"<figure{kind}>{shown}\n<figcaption>{name} {details}</figcaption></figure>"


@dataclass(frozen=True)
class Table:
    """A table of names and values on a page.

    Attributes:
        title: Line above it.
        rows: Values by name.
    """

    title: str
    rows: Mapping[str, object]

    def html(self) -> str:
        """Return the element."""
        rows = "\n".join(
            f'<tr><th scope="row">{escape(name)}</th><td>{escape(str(value))}</td></tr>'
            for name, value in self.rows.items()
        )
        return f"<section><h2>{escape(self.title)}</h2>\n<table>\n{rows}\n</table></section>"


def page(title: str, content: Sequence[Figure | Table]) -> str:
    """Return the page as HTML; its videos play at once, without sound, and begin anew at their end."""
    return PAGE.format(title=escape(title), content="\n".join(part.html() for part in content))
