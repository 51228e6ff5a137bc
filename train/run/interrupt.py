"""A run that is asked to stop finishes its step and saves first."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from rich.console import Console

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Ctrl-C, the terminate signal of schedulers, and that of a closed terminal, which Windows does not have."""


class StopRequest:
    """Notes the signals that ask a run to stop while it is entered; the second one stops at once.

    But not a second one of a closed terminal, of which shell and system both tell; and where that is ignored, as nohup
    wants, it stays so. Signals reach only the main thread, so elsewhere it does nothing.

    Attributes:
        asked: Whether a signal came.
    """

    def __init__(self, console: Console) -> None:
        self.asked = False
        self._console = console
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.Signals(number).name != "SIGHUP" or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and signal.Signals(number).name == "SIGHUP":
            return
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self._console.print("finishing this step, then saving; interrupt again to stop at once")
