"""The model card of a checkpoint, generated from its index and metrics."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from arzoo.base import registry
from arzoo.checkpoints.index import PICTURE, data_of, read_index, read_metrics
from arzoo.checkpoints.provenance import MEASURED, in_words
from arzoo.checkpoints.published import UNKNOWN
from arzoo.checkpoints.runs import CHECKPOINT, STATES

_DRAWN = ("emoji64", "emoji32")
"""Data sets of drawings."""
_DRAWINGS = "drawings of Twemoji (CC-BY 4.0) and OpenMoji (CC-BY-SA 4.0), rendered by `arzoo data`"
_SHARE_ALIKE = "cc-by-sa-4.0"
"""The strictest licence of the drawings, as the hub spells it."""
_HUB_LICENCES = {"MIT": "mit", "Apache-2.0": "apache-2.0"}
"""Licences of published weights, as the hub spells them."""
_SHOWN_ELSEWHERE = ("recipe", "lineage", "data_sha256", "python", "torch")
"""Entries of the training record that other lines of the card show."""
_PREVIEWS = {
    "generator": "Pictures",
    "tokenizer": "Held-out data above its reconstructions",
    "value": "Explained variance and calibration error by step of the plan",
    "segmenter": "Slices of a held-out volume",
}
"""What the preview of a checkpoint shows, by its kind."""
_SETTINGS_SHOWN = (
    "model",
    "plan",
    "heads",
    "tokenizer",
    "width",
    "depth",
    "dropout",
    "variants",
    "balance",
    "optim",
    "run",
)


def write_card(folder: Path, name: str) -> None:
    """Write `README.md` of a checkpoint folder from its present index and metrics.

    Args:
        folder: Folder with `model_index.json` and `metrics.json`.
        name: What people call the checkpoint.
    """
    (folder / "README.md").write_text(card_of(folder, name), encoding="utf-8")


def card_of(folder: Path, name: str = "") -> str:
    """Return the text that `write_card` writes; the name is that of the folder if none is given."""
    picture = (folder / PICTURE).exists()
    return model_card(name or title_of(folder), read_index(folder), read_metrics(folder), picture)


def title_of(folder: Path) -> str:
    """Return what a checkpoint folder is called: that of a run, or of its saved states, has the name of the run."""
    if folder.name != CHECKPOINT:
        return folder.name
    run = folder.resolve().parent
    return run.parent.parent.name if run.parent.name == STATES else run.name


def model_card(name: str, index: dict[str, Any], metrics: dict[str, Any], picture: bool = False) -> str:
    """Return Markdown about a checkpoint: its use, parts, training, figures, limits, licence and citation.

    Args:
        name: What people call the checkpoint.
        index: Content of `model_index.json`.
        metrics: Figures in `metrics.json`: a number, or a dictionary with `value` and its protocol, per name.
        picture: Whether `PICTURE` lies beside the card.
    """
    training = index.get("training", {})
    sections = [
        _front_matter(index),
        f"# {name}",
        *([_shown(_PREVIEWS[index["kind"]])] if picture else []),
        f"A {index['kind']} of arzoo {index['arzoo']}, a model zoo for autoregressive visual generation.",
        "## How to use it\n\n" + _usage(name, index),
        "## What it is\n\n" + markdown_table(["part", "class", "parameters", "sha256"], _parts(index)),
    ]
    facts = [
        (key, index[key])
        for key in ("spec", "generator", "plan", "controls", "judge", "tokenizer", "text")
        if index.get(key)
    ]
    if index.get("classes"):
        facts.append(("classes", f"{len(index['classes'])}: {', '.join(map(str, index['classes'][:5]))} ..."))
    if facts:
        sections[-1] += "\n\n" + _list(facts)
    if training:
        sections.append("## How it was made\n\n" + _list(_history(training, index)))
    if metrics:
        table, protocols = markdown_table(["figure", "value", "how"], _metrics(metrics)), _protocols(metrics)
        protocol_lines = "\n\n" + _list(protocols.items()) if protocols else ""
        sections.append(
            f"## Measured\n\n{table}\n\nFigures of unlike protocols cannot be compared.{protocol_lines}"
        )
    sections += ["## Limits\n\n" + _list_of(_limits(index)), "## Licence\n\n" + _licence(index)]
    sections.append("## Citation\n\n" + _citation(name, index))
    return "\n\n".join(sections) + "\n"


def _shown(what: str) -> str:
    return f"![{what}]({PICTURE})\n\n*{what}, at the end of training; not picked.*"


def _front_matter(index: dict[str, Any]) -> str:
    """Return the YAML header that the hub reads."""
    task, licence = _task(index), _hub_licence(index)
    lines = ["library_name: arzoo", *([f"pipeline_tag: {task}"] if task else [])]
    lines += [f"license: {licence}"] if licence else []
    return "\n".join(["---", *lines, f"tags: [arzoo, autoregressive, {index['kind']}]", "---"])


def _task(index: dict[str, Any]) -> str:
    """Return the hub's name of what a checkpoint does; empty where the hub has none, as for clips by class."""
    grid = index.get("spec", {}).get("layout", {}).get("grid", [1])
    if index["kind"] == "generator":
        if grid[0] > 1:
            return "text-to-video" if index.get("text") else ""
        return "text-to-image" if index.get("text") else "unconditional-image-generation"
    return "image-feature-extraction" if index["kind"] == "tokenizer" and grid[0] == 1 else ""


def _hub_licence(index: dict[str, Any]) -> str:
    """Return the licence of the weights as the hub spells it; empty if it is not known."""
    training = index.get("training", {})
    if "converted" in training:
        stated = str(training.get("licence", ""))
        return _HUB_LICENCES.get(stated, "other" if stated and stated != UNKNOWN else "")
    return _SHARE_ALIKE if data_of(index)[0] in _DRAWN else ""


def _usage(name: str, index: dict[str, Any]) -> str:
    kind, classes = index["kind"], index.get("classes")
    if kind == "generator" and index.get("text"):
        shell = f'arzoo generate {name} --prompt "red heart"'
        shell += f"\narzoo generate {name} --class {shlex.quote(classes[0])}" if classes else ""
        python = 'images = model.generate(prompts=["red heart"], seed=0).images  # PIL images'
    elif kind == "generator":
        shell, python = (
            f"arzoo generate {name}",
            "images = model.generate([0, 1], seed=0).images  # PIL images",
        )
    elif kind == "value":
        of = index.get("generator", {}).get("name")
        python = f"TokenValue(checkpoint={name!r}) steers a search of {of}; Value.load({name!r}).stop() ends samples"
        return f"It foresees how pictures of `{of}` will be, without decoding them.\n\n```python\n# {python}\n```"
    elif kind == "segmenter":
        return (
            "It reads volumes of electron microscopy, (B, 1, Z, Y, X) in [0, 1].\n\n"
            f"```bash\narzoo segment VOLUME --checkpoint {name} --out segments.h5\n```\n\n```python\n"
            "from arzoo.checkpoints.folder import load_parts\n\n"
            f'network = load_parts({name!r}, "segmenter")[1]["segmenter"]\n'
            "affinities = network(volume)\n```"
        )
    else:
        shell = f"arzoo reconstruct PICTURES --tokenizer {name}"
        takes = "PIL images, files or (B, H, W, 3) uint8; model.decode_images goes back"
        python = f"tokens = model.encode_images(pictures)  # {takes}"
    return f"```bash\n{shell}\n```\n\n```python\nimport arzoo\n\nmodel = arzoo.load({name!r})\n{python}\n```"


def _history(training: dict[str, Any], index: dict[str, Any]) -> list[tuple[str, Any]]:
    recipe = training.get("recipe")
    recipe = recipe if isinstance(recipe, dict) else {}
    rows: list[tuple[str, Any]] = [("data", _data(index))] if data_of(index)[0] else []
    rows += [(key, value) for key, value in training.items() if key not in _SHOWN_ELSEWHERE]
    rows += [(f"recipe: {key}", recipe[key]) for key in _SETTINGS_SHOWN if recipe.get(key)]
    python = f", python {training['python']}" if "python" in training else ""
    torch = training.get("torch", index.get("torch"))
    rows += [("software", f"arzoo {index['arzoo']} ({index.get('commit')}){python}, torch {torch}")]
    return rows + ([("whole recipe", "`training` in model_index.json")] if recipe else [])


def _data(index: dict[str, Any]) -> str:
    name, digest = data_of(index)
    about = _about(name)
    return name + (f": {about}" if about else "") + (f" (sha256 `{digest[:16]}`)" if digest else "")


def _about(name: str) -> str:
    return _DRAWINGS if name in _DRAWN else ""


def _limits(index: dict[str, Any]) -> list[str]:
    training = index.get("training", {})
    layout = index.get("spec", {}).get("layout")
    limits = [f"Its tokens lie on {_short(layout)}; other sizes of pictures are resized."] if layout else []
    if "converted" in training:
        return [*limits, "Converted from published weights; their authors' card and limits apply."]
    limits.append("It knows the data above and nothing else; other subjects come out badly or not at all.")
    if index["kind"] == "value":
        limits.append("It belongs to one generator and its knobs, and refuses another.")
    if index["kind"] == "generator":
        limits.append("It can only work with the tokenizer it was trained on, and refuses another.")
    if index.get("text"):
        limits.append("It reads prompts with the text encoder it was trained with, and refuses another.")
    return limits


def _licence(index: dict[str, Any]) -> str:
    training = index.get("training", {})
    if "converted" in training:
        stated = str(training.get("licence", UNKNOWN))
        of_publisher = f" Its repository, {training['at']}, says: {stated}." if "at" in training else ""
        return f"That of the published weights it was converted from.{of_publisher}"
    about = _about(data_of(index)[0])
    if not about:
        return (
            "The code that reads it: Apache-2.0. The licence of the training data, and so of the weights, is not "
            "recorded."
        )
    return (
        f"The weights: CC-BY-SA 4.0, the stricter of the licences of the training data, which are {about}. The code "
        "that reads them: Apache-2.0."
    )


def _citation(name: str, index: dict[str, Any]) -> str:
    paper = _paper(str(index.get("plan", {}).get("name")))
    method = f"The order of generation: *{paper}*.\n\n" if paper else ""
    note = f"arzoo {index['arzoo']}, checkpoint {name}"
    return f"{method}```bibtex\n@software{{arzoo, title = {{arzoo}}, note = {{{note}}}}}\n```"


def _paper(plan: str) -> str:
    """Return the paper that introduced a plan; empty if there is none, or the plan is not installed."""
    from arzoo.samplers.plans.about import OWN, about

    paper = about(plan).paper if plan in registry.names("plan") else OWN
    return "" if paper == OWN else paper


def _parts(index: dict[str, Any]) -> list[list[str]]:
    return [
        [part, str(facts["class"]), f"{facts['parameters']:,}", f"`{facts['sha256'][:16]}`"]
        for part, facts in index["parts"].items()
    ]


def _metrics(metrics: dict[str, Any]) -> list[list[str]]:
    rows = []
    for name, figure in metrics.items():
        if isinstance(figure, dict) and "value" in figure:
            error = f" ± {figure['error']:.2g}" if isinstance(figure.get("error"), float) else ""
            rest = {key: value for key, value in figure.items() if key not in ("value", "error") and value}
            if isinstance(figure.get("protocol"), dict):
                rest["protocol"] = name.partition("@")[2]
            if isinstance(figure.get(MEASURED), dict):
                rest[MEASURED] = in_words(figure[MEASURED])
            details = ", ".join(f"{key} {_short(value)}" for key, value in rest.items())
            rows.append([name.partition("@")[0], _short(figure["value"]) + error, details])
        else:
            rows.append([name, _short(figure), ""])
    return rows


def _protocols(metrics: dict[str, Any]) -> dict[str, str]:
    """Describe the protocols of figures, by their digits."""
    descriptions = {}
    for name, figure in metrics.items():
        if isinstance(figure, dict) and isinstance(figure.get("protocol"), dict):
            settings = ", ".join(f"{key} {_short(value)}" for key, value in figure["protocol"].items())
            descriptions[f"protocol {name.partition('@')[2]}"] = settings
    return descriptions


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _list(items: Iterable[tuple[str, Any]]) -> str:
    return "\n".join(f"* {key}: {_short(value)}" for key, value in items)


def _list_of(lines: Iterable[str]) -> str:
    return "\n".join(f"* {line}" for line in lines)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Format a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )
