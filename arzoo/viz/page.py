"""A page that plays clips in a browser: plain HTML beside their files, without scripts, server or network."""

from __future__ import annotations

from collections.abc import Sequence
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
h1 {{ grid-column: 1 / -1; margin: 0; font-size: 1.2rem }}
figure {{ margin: 0; overflow-wrap: anywhere }}
video, img {{ width: 100%; image-rendering: pixelated }}
.frames {{ display: flex; gap: 2px; overflow-x: auto }}
.frames img {{ width: 8rem; flex: none }}
</style>
<h1>{title}</h1>
{figures}
</html>
"""
"""The policy lets nothing but files beside the page be loaded; `file:` is for browsers to which each file is an origin
of its own. The empty icon spares a request."""


@dataclass(frozen=True)
class Figure:
    """A clip on a page.

    Attributes:
        files: Its file, or those of its frames, relative to the page.
        caption: What it shows.
        details: Smaller text after it.
    """

    files: Sequence[str]
    caption: str
    details: str = ""

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
        return f"<figure>{shown}\n<figcaption>{name} {details}</figcaption></figure>"


def page(title: str, figures: Sequence[Figure]) -> str:
    """Return the page as HTML; its videos play at once, without sound, and begin anew at their end."""
    return PAGE.format(title=escape(title), figures="\n".join(figure.html() for figure in figures))
