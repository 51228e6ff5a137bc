"""Output that may be lost: a closed terminal, or a pipe whose reader went away, must not end the work."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console


class Lossy:
    """A text stream to which writing never fails; with the first failure it leads nowhere.

    Args:
        stream: Where the text goes; None, which Python makes of a stream that was closed before it started, is nowhere.

    Attributes:
        failure: What went wrong, None as long as nothing did.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream if stream is not None else open(os.devnull, "w", encoding="utf-8")
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write, or lose the text."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lead_nowhere(error)
            return len(text)

    def flush(self) -> None:
        """Flush, or lose what was not written yet."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lead_nowhere(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lead_nowhere(self, error: OSError) -> None:
        """Change the descriptor itself, which libraries write to as well, and Python flushes to when it ends."""
        self.failure = error.with_traceback(None)  # which keeps alive whatever was printing
        try:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())
        except OSError:
            pass  # a stream without a descriptor


def lossy(console: Console) -> Console:
    """The same console, on which printing never fails from now on."""
    if not isinstance(console.file, Lossy):
        console.file = Lossy(console.file)  # type: ignore[assignment,arg-type]
    return console
