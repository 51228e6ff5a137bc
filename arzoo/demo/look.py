"""What the page shows of drawings, as HTML: all text is escaped, and pictures are part of the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from arzoo.base.console import human_seconds
from arzoo.demo.drawing import INIT, MASK, Request, Shown


def link_of(image: Image.Image) -> str:
    """Return a picture as an address that holds it."""
    page = io.BytesIO()
    image.save(page, "PNG")
    return f"data:image/png;base64,{base64.b64encode(page.getvalue()).decode()}"


def text(words: str) -> str:
    """Escape text, also from the templates of the page."""
    return "".join(
        f"&#{ord(character)};" if character in "{}$`\\" else escape(character) for character in words
    )


def stage(requests: Sequence[Request], shown: Sequence[Shown | None]) -> str:
    """Return the pictures on their way, side by side."""
    figures = "".join(map(_figure, requests, shown))
    return f'<div class="stage">{figures}</div>'


def _figure(request: Request, shown: Shown | None) -> str:
    about = ", ".join(filter(None, [request.subject, f"seed {int(request.seed)}"]))
    caption = f"<b>{text(request.model)}</b> {text(about)}"
    if shown is None:
        return f'<figure><div class="empty"></div><figcaption>{caption}</figcaption></figure>'
    link = link_of(Image.fromarray(np.ascontiguousarray(shown.pixels)))
    state = f"step {shown.step} of {shown.steps}"
    bar = f'<progress max="{shown.steps}" value="{shown.step}"></progress>'
    if shown.done:
        plural = "s" if shown.step != 1 else ""
        state = f"{shown.step} step{plural} in {human_seconds(shown.seconds)}"
        name = f"{request.model.rsplit('/', 1)[-1]}_seed{int(request.seed)}.png"
        bar = f'<a href="{link}" download="{text(name)}">save</a>'
    remarks = "".join(f'<p class="remark">{text(remark)}</p>' for remark in shown.remarks)
    return (
        f'<figure class="{"done" if shown.done else "drawing"}"><img src="{link}" alt="{text(about)}">'
        f"<figcaption>{caption}<span>{state} {bar}</span>{remarks}</figcaption></figure>"
    )


def empty() -> str:
    """Return the stage before the first drawing."""
    return '<div class="stage"><figure><div class="empty">Your picture appears here.</div></figure></div>'


def message(words: str, role: str = "status") -> str:
    """Return a message; of role "alert" it is an error."""
    return f'<p class="message" role="{role}">{text(words)}</p>' if words else ""


def files(request: Request) -> str:
    """Return links to the files that the command of a completed picture reads."""
    if request.init is None or request.mask is None:
        return ""
    links = " and ".join(
        f'<a href="{link_of(image)}" download="{name}">{name}</a>'
        for name, image in ((INIT, request.init), (MASK, request.mask))
    )
    return f'<p class="files">The command reads {links}: save both where you run it.</p>'
