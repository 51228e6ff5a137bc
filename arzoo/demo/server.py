"""The server of the page: on this machine alone, and the page fetches nothing from elsewhere."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware

from arzoo.base.errors import ArzooError
from arzoo.demo.page import Page
from arzoo.demo.port import HOST, require_port

LARGEST_UPLOAD = "16mb"
UPLOADS = "GRADIO_TEMP_DIR"
"""The variable by which gradio knows where uploads lie."""
POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
)
"""What a browser may load: nothing but what this server has."""
FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
"""Fonts of the system; the default ones are fetched."""


class Policy:
    """Adds the policy to every answer."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""

        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Content-Security-Policy"] = POLICY
            await send(message)

        await self.app(scope, receive, with_policy)


@contextmanager
def serving(page: Page, port: int) -> Iterator[str]:
    """Serve the page meanwhile, and yield its address.

    Uploads lie in a folder that is removed at the end.

    Raises:
        ArzooError: The port is taken.
    """
    require_port(port)
    page.blocks.queue(default_concurrency_limit=None, max_size=64)
    try:
        page.blocks.launch(
            server_name=HOST, server_port=port, share=False, prevent_thread_lock=True, quiet=True, ssr_mode=False,
            enable_monitoring=False, max_file_size=LARGEST_UPLOAD, footer_links=[], show_error=True,
            theme=gradio.themes.Default(**FONTS), css_paths=Path(__file__).with_name("style.css"),
            app_kwargs={"middleware": [Middleware(Policy)]},
        )  # fmt: skip
        yield f"http://{HOST}:{port}"
    except OSError as error:
        raise ArzooError(f"the page cannot be served at http://{HOST}:{port}: {error}") from error
    finally:
        page.blocks.close(verbose=False)


@contextmanager
def private_uploads() -> Iterator[None]:
    """Keep uploads meanwhile in a folder of one's own; the page is made within."""
    before = os.environ.get(UPLOADS)
    with tempfile.TemporaryDirectory(prefix="arzoo_demo_", ignore_cleanup_errors=True) as folder:
        os.environ[UPLOADS] = folder
        try:
            yield
        finally:
            os.environ.pop(UPLOADS) if before is None else os.environ.update({UPLOADS: before})
