"""Search of the checkpoints that another one names: the tokenizer of a generator, and the base of a tokenizer.

A checkpoint may come from a stranger: paths and addresses in it are not followed, and weights are compared by hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arzoo.base.config import Config
from arzoo.base.errors import ArzooError
from arzoo.base.runtime import store_folder
from arzoo.checkpoints.folder import Checkpoint, open_checkpoint
from arzoo.checkpoints.index import INDEX
from arzoo.checkpoints.names import BUNDLED, is_name
from arzoo.checkpoints.published import PUBLISHED, instructions
from arzoo.checkpoints.runs import CHECKPOINT, run_of
from arzoo.checkpoints.store import with_weights


def tokenizer_of(generator: Checkpoint, override: str | Path | None = None) -> Checkpoint:
    """Return the checkpoint of the tokenizer that a generator was trained on.

    Args:
        generator: Checkpoint of the generator.
        override: Where to take the tokenizer from. By default a folder of the recorded name inside or beside the
            generator's (or beside its run), a bundled or named checkpoint, or any known one with the recorded weights.
            The checkpoint may come from a stranger: a path or an address in it is not followed.

    Raises:
        ArzooError: It is not the tokenizer the generator was trained on, or none is recorded and none given.
    """
    recorded = generator.index.get("tokenizer") or {}
    name = str(recorded.get("name", ""))
    if not name and override is None:
        raise ArzooError(
            f"{generator.folder} does not say which tokenizer it belongs to. Name one with --tokenizer (in Python: "
            "tokenizer=), or when bringing weights in: arzoo convert SRC DST --tokenizer NAME"
        )
    if override:
        return _of_generator(generator, override)
    here = next((path for path in _places(generator.folder, name) if (path / INDEX).exists()), None)
    refusal = None
    if here is not None:
        try:
            return _of_generator(generator, here)
        except ArzooError as error:
            refusal = error
    other = with_weights(recorded["sha256"]) if recorded.get("sha256") else None
    if other is not None:
        return _of_generator(generator, other)
    published = PUBLISHED.get(name)
    if refusal is None and published is not None:
        raise ArzooError(
            f"the tokenizer of {generator.folder} is not on this machine. {instructions(published)}"
        )
    raise refusal or ArzooError(
        f"the tokenizer {name!r} of {generator.folder} is not here: neither in its folder nor among the checkpoints "
        "that are known (`arzoo checkpoints ls`), and a path or an address in a checkpoint is not followed. Say where "
        "it is: --tokenizer (in Python: tokenizer=)"
    )


def base_of(tokenizer: Checkpoint) -> Checkpoint:
    """Return the checkpoint of the base of a tokenizer, searched by name and weights like that of `tokenizer_of`.

    Raises:
        ArzooError: It is not here.
    """
    recorded = tokenizer.index["base"]
    name, sha256 = (str(recorded.get(key, "")) for key in ("name", "sha256"))
    known = with_weights(sha256) if sha256 else None
    for path in (*_places(tokenizer.folder, name, "base"), *([known] if known else [])):
        if (path / INDEX).exists():
            base = open_checkpoint(path)
            # A base has none of its own, or the search could go on forever.
            if base.parts.get("tokenizer", {}).get("weights") == sha256 and not base.index.get("base"):
                return base
    raise ArzooError(
        f"{tokenizer.folder} works on the latents of {name!r} ({sha256[:12]}), which is not here: neither in its "
        f"folder nor among the checkpoints that are known (`arzoo checkpoints ls`). Copy that checkpoint to "
        f"{tokenizer.folder / 'base'}."
    )


def _places(folder: Path, name: str, inside: str = "tokenizer") -> list[Path]:
    """Return the folders that may hold the checkpoint recorded under a name in another one's folder."""
    places = [folder / inside]
    if is_name(name):
        run = run_of(folder)
        places = [folder / name, *places, run / name, run.parent / name / CHECKPOINT]
        places += [BUNDLED / name, store_folder() / name]
    return places


def _of_generator(generator: Checkpoint, where: str | Path) -> Checkpoint:
    """Open the tokenizer in a folder and refuse it if the generator was trained on another one."""
    tokenizer = open_checkpoint(where, "tokenizer")
    weights, recorded = tokenizer.parts["tokenizer"]["weights"], generator.index.get("tokenizer") or {}
    config = tokenizer.config("tokenizer") if recorded.get("settings") else None
    was = str(recorded.get("sha256", ""))
    if codes_kept(tokenizer.index.get("training") or {}, was) == "freeze":
        weights = was  # it has another decoder, and the same codes
    refuse_other_tokenizer(str(generator.folder), recorded, weights, str(where), config)
    return tokenizer


def codes_kept(training: Mapping[str, Any], weights: str) -> str:
    """Say what a training left of the codes of the tokenizer that it started from.

    Args:
        training: What a checkpoint of a tokenizer records of its training.
        weights: `weights_sha256` of another tokenizer.

    Returns:
        "freeze" if it was trained from that one and has exactly its codes, "keep" if they were trained too and none was
        replaced, else nothing.
    """
    lineage = training.get("lineage")
    init = lineage.get("init") if isinstance(lineage, Mapping) else None
    hashes = init.get("weights") if isinstance(init, Mapping) else None
    same = weights and isinstance(hashes, Mapping) and hashes.get("tokenizer") == weights
    kept = init.get("codes") if same and isinstance(init, Mapping) else ""
    return str(kept) if kept in ("keep", "freeze") else ""


def refuse_other_tokenizer(
    generator: str, recorded: Mapping[str, Any], weights: str, name: str, config: Config | None
) -> None:
    """Compare the tokenizer that a generator was trained on with the one it is about to use.

    Args:
        generator: What to call the generator in the message.
        recorded: {"name", "sha256", "settings"} of the tokenizer recorded with it. Without a hash any tokenizer is
            accepted, and without `settings`, which older generators lack, any settings.
        weights: `weights_sha256` of the tokenizer to be used.
        name: What to call that tokenizer in the message.
        config: Its settings, as the scale of its vectors is not among the weights.

    Raises:
        ArzooError: They differ.
    """
    if recorded.get("sha256") and recorded["sha256"] != weights:
        raise ArzooError(
            f"{generator} was trained on tokenizer {recorded.get('name')!r} ({str(recorded['sha256'])[:12]}), you "
            f"passed {name!r} ({weights[:12]}). Its codes mean something else: use the former, or encode the "
            "data again with `arzoo tokenize` and train a generator on it."
        )
    if recorded.get("settings") and config is not None:
        before, now = type(config).from_dict(recorded["settings"]).to_dict(), config.to_dict()
        changes = [f"{key} {before[key]}, not {now[key]}" for key in now if before[key] != now[key]]
        if changes:
            raise ArzooError(
                f"{generator} was trained on tokenizer {recorded.get('name')!r} with {'; '.join(changes)} as in the "
                f"one you passed, {name!r}. Its tokens mean something else: use the tokenizer with the former settings."
            )
