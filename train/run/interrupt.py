"""Requests to stop a run by signals: it finishes its step and saves its state first."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from rich.console import Console

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals of Ctrl-C, of schedulers, and of a closed terminal; Windows does not have the last one."""


class StopRequest:
    """Context that catches the signals that ask a run to stop; the second signal stops it at once.

    A second SIGHUP has no effect, since shell and system both send one when a terminal is closed. An ignored SIGHUP, as
    under nohup, stays ignored. Signals reach only the main thread; in other threads the context does nothing.

    Attributes:
        asked: Whether a signal has arrived.
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
