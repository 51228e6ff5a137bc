"""A bounded number of drawings at once; the others wait in line."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from arzoo.base.errors import ArzooError


class Slots:
    """The line of drawings, of which the first ones are at work.

    Args:
        at_once: How many are at work.
        waiting: How many may wait.
    """

    def __init__(self, at_once: int = 2, waiting: int = 16) -> None:
        self.at_once, self.waiting = at_once, waiting
        self._line = list[object]()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Number of drawings, waiting ones among them."""
        return len(self._line)

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Stand in line; the place is given up at the end, however it comes.

        Raises:
            ArzooError: Too many wait.
        """
        place = Place(self)
        with self._lock:
            if len(self._line) >= self.at_once + self.waiting:
                raise ArzooError(
                    f"{self.at_once} drawings are at work and {self.waiting} wait: try again in a minute"
                )
            self._line.append(place)
        try:
            yield place
        finally:
            with self._lock:
                self._line.remove(place)

    def before(self, place: object) -> int:
        """Number of drawings that have to end before that of a place begins."""
        with self._lock:
            return max(0, self._line.index(place) - self.at_once + 1)


class Place:
    """A place in the line of some slots."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots

    @property
    def before(self) -> int:
        """Number of drawings that have to end first; 0 if it is one's turn."""
        return self._slots.before(self)
