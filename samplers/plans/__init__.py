"""Plans: the orders of all methods. `plans.raster(layout)` is the registered plan of that name.

To add one, write a function from a layout to a `Plan` under the decorator `about.plan`, in a file of this folder. It
fills in ranks, the readout and, for `shifted`, the sources; groups, number of calls, attention mask and progress follow
from the ranks. The decorator is told all that others need to know of the plan.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """The registered plan of a name."""
    from arzoo.base import registry

    if not name.startswith("_") and name in registry.names("plan"):
        return registry.lookup("plan", name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
