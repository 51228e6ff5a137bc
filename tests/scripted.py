"""Scripts outside the package, imported by tests as if each was started in its folder."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def scripts(folder: str) -> Iterator[Callable[[str], ModuleType]]:
    """A function that imports a script of a folder by name; afterwards none of them is importable or left behind."""
    path = ROOT / folder
    sys.path.insert(0, str(path))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(path))
        for script in path.glob("*.py"):
            sys.modules.pop(script.stem, None)
