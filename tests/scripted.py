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
    """A function that imports a script of a folder by name; afterwards none of them is importable or left behind.

    Helpers of the tests may have the name of a script; they are back afterwards.
    """
    path = ROOT / folder
    names = {script.stem for script in path.glob("*.py")}
    helpers = {name: sys.modules.pop(name) for name in names & sys.modules.keys()}
    sys.path.insert(0, str(path))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(path))
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(helpers)
