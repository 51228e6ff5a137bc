#!/usr/bin/env bash
# Defining a subclass of a Gradio component writes a .pyi file beside the module that defines it.
# Guess: a class statement writes nothing; importing a module leaves its folder as it was.
# Matters to: packages with a component of their own. The file lies in site-packages or in the checkout, where git shows it as
# new and a type checker reads it instead of the source.
source "$(dirname "$0")/environment.sh" gradio==6.31.0
mkdir package
cat >package/canvas.py <<'PY'
import gradio


class Canvas(gradio.HTML):
    def shown(self) -> int:
        return 3
PY
PYTHONDONTWRITEBYTECODE=1 python - <<'PY'
import sys
from pathlib import Path

before = sorted(path.name for path in Path("package").iterdir())
sys.path.insert(0, "package")
import canvas  # noqa: E402

after = sorted(path.name for path in Path("package").iterdir())
print("before the import:", before, "after it:", after)
print(Path("package/canvas.pyi").read_text()[:300])
assert (before, after) == (["canvas.py"], ["canvas.py", "canvas.pyi"]), "importing leaves the folder as it was now"
PY
