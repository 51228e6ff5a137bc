"""`arzoo demo`: a page in a browser to draw with."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import tyro

from arzoo.base.console import note
from arzoo.base.errors import UsageError, require
from arzoo.cli.subjects import chosen_model


@dataclass(kw_only=True)
class Demo:
    """Open a page to draw with in a browser: choose a model and what to draw, watch it come, complete and compare.

    Only this machine reaches the page (127.0.0.1), and the page fetches nothing from elsewhere. It offers the shipped
    checkpoints, your own and those of training runs, and shows the command that draws each picture. Ctrl-C ends it.
    Needs gradio: pip install 'arzoo[demo]'.
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")] = ""
    """The model that is chosen at first: a checkpoint as for `arzoo generate`. By default nar_emoji64."""
    port: int = 7860
    """Port of the page."""
    device: str = "auto"
    """Device: auto (a GPU if there is one), cpu, cuda, cuda:1 or mps."""

    examples: ClassVar = ("arzoo demo", "arzoo demo raster_emoji64 --port 7861")

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """Serve the page until Ctrl-C; the document has its address."""
        if not 1 <= self.port <= 65535:
            raise UsageError(f"--port must be from 1 to 65535, got {self.port}")
        from arzoo.demo.port import require_port

        require_port(self.port)
        require("gradio", "demo")
        from arzoo.base import runtime
        from arzoo.demo.models import Models
        from arzoo.demo.page import Page
        from arzoo.demo.server import private_uploads, serving
        from arzoo.demo.slots import Slots

        models = Models(chosen_model(self.model, of_text=False), runtime.choose_device(self.device))
        options = () if self.device == "auto" else ("--device", self.device)
        with private_uploads(), serving(Page(models, Slots(), options), self.port) as address:
            note(f"the page is at {address}; Ctrl-C ends it")
            try:
                while True:
                    time.sleep(3600)
            except KeyboardInterrupt:
                return {"address": address, "models": models.names}

    def show(self, document: dict[str, Any]) -> None:
        """Say that the page is closed."""
        print(f"the page at {document['address']} is closed")
