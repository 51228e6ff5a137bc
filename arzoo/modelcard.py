"""The model card of a checkpoint, generated from its index and metrics."""

from __future__ import annotations

import json
from typing import Any


def model_card(name: str, index: dict[str, Any], metrics: dict[str, Any]) -> str:
    """Markdown that says what a checkpoint is, how it was made, how good it is and how to use it.

    Args:
        name: What people call the checkpoint.
        index: Content of `model_index.json`.
        metrics: Content of `metrics.json`: a number, or a dictionary with `value` and its protocol, per name.
    """
    verb = "generate" if index["kind"] == "generator" else "reconstruct --tokenizer"
    prompt = ' --prompt "red heart"' if index.get("text") else ""
    sections = [
        f"# {name}",
        f"A {index['kind']} of [arzoo](https://pypi.org/project/arzoo) {index['arzoo']}.",
        f"```bash\narzoo {verb} {name}{prompt}\n```",
        "## Parts\n\n" + _table(["part", "class", "parameters", "sha256"], _parts(index)),
    ]
    facts = [(key, index[key]) for key in ("spec", "plan", "controls", "tokenizer", "text") if index.get(key)]
    if index.get("classes"):
        facts.append(("classes", f"{len(index['classes'])}: {', '.join(map(str, index['classes'][:5]))} ..."))
    if facts:
        sections.append("## What it is\n\n" + _list(facts))
    if index.get("training"):
        sections.append("## How it was made\n\n" + _list(index["training"].items()))
    if metrics:
        sections.append("## Measured\n\n" + _table(["figure", "value", "protocol"], _metrics(metrics)))
    return "\n\n".join(sections) + "\n"


def _parts(index: dict[str, Any]) -> list[list[str]]:
    return [
        [part, str(facts["class"]), f"{facts['parameters']:,}", f"`{facts['sha256'][:16]}`"]
        for part, facts in index["parts"].items()
    ]


def _metrics(metrics: dict[str, Any]) -> list[list[str]]:
    rows = []
    for name, figure in metrics.items():
        if isinstance(figure, dict) and "value" in figure:
            rest = ", ".join(f"{key} {_short(value)}" for key, value in figure.items() if key != "value")
            rows.append([name, _short(figure["value"]), rest])
        else:
            rows.append([name, _short(figure), ""])
    return rows


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _list(items: Any) -> str:
    return "\n".join(f"* {key}: {_short(value)}" for key, value in items)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
