"""Agreement of a verifier with what pictures show.

Drawings are scored for what they show and for what another one shows; so are pictures that a generator drew. Whether
drawings score higher than pictures of a generator is measured too: of a verifier that does not look at what is asked
for, that is all that can be known.

Shapes: n pictures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.core.tokens import Tokens
from arzoo.data.base import ImageSet
from arzoo.data.transforms import composite
from arzoo.generation.generator import Generator
from arzoo.generation.prompts import takes_text
from arzoo.generation.verifiers.catalogue import open_verifier, verifier_class
from arzoo.metrics.scores.bootstrap import standard_error
from arzoo.metrics.scores.retrieval import mean_and_error
from arzoo.samplers.verifiers.base import OF_CANDIDATES, Candidates, Subject, Verifier, scores_of

_REPLICATES = 1000


def calibrate(
    name: str,
    data: ImageSet,
    num: int = 0,
    seed: int = 0,
    model: Generator | None = None,
    options: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measure how far a verifier agrees with what pictures show.

    Args:
        name: A registered verifier.
        data: Held-out drawings.
        num: Number of captions (of pictures where there are none), 0 for all.
        seed: Seed of the choice of drawings, of the wrong pairs and of drawn pictures.
        model: Draws pictures that are scored too.
        options: Options of the verifier.
        progress: Called with (scored, total).

    Returns:
        n; for "real" and "generated" pictures `right_over_wrong`, how often the right picture of a subject scores
        higher than a wrong one, and `auc`, how often the score of any right pair is above that of any wrong pair; `auc`
        of "real_over_generated"; "seconds" per score; "not_covered", sentences about what was not measured.

    Raises:
        ArzooError: There are fewer than 2 captions, most are of one class, or scores are relative to other candidates;
            also as `open_verifier`.
    """
    kind = verifier_class(name)
    if kind.relative:
        raise ArzooError(
            f"{name} compares candidates with each other, so a picture has no score of its own; calibrate its members"
        )
    rows = different_captions(data, num, seed)
    subjects = subjects_of(data, rows)
    document: dict[str, Any] = {"n": len(rows), "not_covered": []}
    if kind.needs & OF_CANDIDATES:
        document["not_covered"].append(f"{name} looks at how tokens were drawn: pictures alone have no score")
        return document
    sets = {"real": (composite(data.pixels(rows)), subjects)}
    if model is None:
        document["not_covered"].append("pictures of a generator: no model was given")
    else:
        sets["generated"] = _drawn(model, subjects, seed)
    wrong: list[int] = []
    if kind.needs:
        wrong = mismatched(_keys(data, rows, "class" in kind.needs), seed)
    else:
        document["not_covered"].append(f"right and wrong subjects: {name} does not look at what is asked for")
    total, done, seconds = len(sets) * len(rows) * (2 if wrong else 1), 0, 0.0
    right_scores = {}
    for which, (images, whose) in sets.items():
        if lacking := sorted({need for subject in whose for need in kind.lacks(subject)}):
            document["not_covered"].append(
                f"{which} pictures: there is no {' and no '.join(lacking)} for them"
            )
            continue
        # A verifier that does not look at the subject is opened once.
        parts = [[i, wrong[i]] for i in range(len(rows))] if wrong else [list(range(len(rows)))]
        scores = []
        for part in parts:
            verifier = open_verifier(name, whose[part[0]], **(options or {}))
            started = time.perf_counter()
            scores.append(_scores(verifier, images[part]))
            seconds += time.perf_counter() - started
            done += len(part)
            if progress:
                progress(done, total)
        if wrong:
            scores = [*torch.stack(scores).T]  # of right and of wrong pictures
            document[which] = agreement(*scores)
        right_scores[which] = scores[0]
    if len(right_scores) == 2:
        document["real_over_generated"] = {"auc": area(right_scores["real"], right_scores["generated"])}
    if done:
        document["seconds"] = round(seconds / done, 5)
    return document


def different_captions(data: ImageSet, num: int, seed: int) -> Tensor:
    """Choose rows of drawings with different captions in random order; of data without captions, any rows.

    Args:
        data: Drawings.
        num: Number of rows, 0 for as many as possible.
        seed: Seed of the choice.

    Raises:
        ArzooError: There are fewer, or fewer than 2.
    """
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed)).tolist()
    captions = data.captions
    rows = list({captions[row]: row for row in order}.values()) if captions else order
    if len(rows) < max(num, 2):
        what = "different captions" if captions else "pictures"
        raise ArzooError(f"{data.name} has {len(rows)} {what}, but {max(num, 2)} are needed")
    return torch.tensor(rows[: num or None])


def subjects_of(data: ImageSet, rows: Tensor) -> list[Subject]:
    """What drawings show: caption, class, and as the reference another drawing with the same caption, if any."""
    captions, subjects = data.captions or (), []
    for row in rows.tolist():
        twins = [i for i, caption in enumerate(captions) if caption == captions[row] and i != row]
        subjects.append(
            Subject(
                prompt=captions[row] if captions else None,
                label=data.classes[int(data.labels[row])] if data.classes else None,
                reference=composite(data.pixels(torch.tensor(twins[:1])))[0] if twins else None,
            )
        )
    return subjects


def mismatched(keys: Sequence[str], seed: int) -> list[int]:
    """Return a random order in which no item meets one of its own key.

    Raises:
        ArzooError: More than half of the items have one key.
    """
    largest = max(map(keys.count, keys))
    if 2 * largest > len(keys):
        raise ArzooError(
            f"{largest} of {len(keys)} pictures have the same class or caption, so there are no wrong ones for all of "
            "them; measure more pictures, or of more classes"
        )
    order = torch.randperm(len(keys), generator=torch.Generator().manual_seed(seed)).tolist()
    order.sort(key=lambda i: keys[i])
    partners = dict(zip(order, order[largest:] + order[:largest], strict=True))
    return [partners[i] for i in range(len(keys))]


def agreement(right: Tensor, wrong: Tensor) -> dict[str, Any]:
    """Figures of the scores (n,) that subjects give to right and to wrong pictures; equal scores count as half."""
    value, error = mean_and_error(_above(right, wrong))
    return {"right_over_wrong": {"value": value, "error": error}, "auc": area(right, wrong)}


def area(high: Tensor, low: Tensor) -> dict[str, float | None]:
    """Share of pairs (i, j) with high[i] above low[j], the area under the ROC curve, with its bootstrap error.

    Args:
        high: (n,) scores.
        low: (n,) scores that belong to the same subjects.
    """
    above = _above(high[:, None], low)

    def score(times: Tensor) -> float:
        weights = times.double()
        return float(weights @ above @ weights / weights.sum() ** 2)

    n = len(high)
    return {"value": score(torch.ones(n)), "error": standard_error(score, n, _REPLICATES)}


def _above(a: Tensor, b: Tensor) -> Tensor:
    return (a > b).double() + 0.5 * (a == b).double()


def _drawn(model: Generator, subjects: list[Subject], seed: int) -> tuple[Tensor, list[Subject]]:
    """Pictures of a generator, one for each subject, and what the generator was asked for."""
    if takes_text(model.backbone):
        prompts = [subject.prompt for subject in subjects if subject.prompt is not None]
        if len(prompts) < len(subjects):
            raise ArzooError(
                "the model draws what a text says, but the drawings have no captions; use other data"
            )
        drawn = model.generate(prompts=prompts, seed=seed)
        asked = [Subject(prompt=each.prompt, reference=each.reference) for each in subjects]
    else:
        drawn = model.generate([each.label for each in subjects if each.label is not None], seed=seed)
        asked = [Subject(label=each.label) for each in subjects]
    return drawn.stills.cpu(), asked


def _scores(verifier: Verifier, images: Tensor) -> Tensor:
    """Scores (n,) of pictures (n, H, W, 3) uint8."""
    tokens = Tokens.of(torch.zeros(len(images), 1, dtype=torch.long))
    return scores_of(verifier, Candidates(tokens, images[:, None], None, None, 0, 0)).double()


def _keys(data: ImageSet, rows: Tensor, by_class: bool) -> list[str]:
    """Captions of drawings; or their classes, those of all drawings with the caption, which may differ in style."""
    captions = data.captions
    if captions is None:
        return [str(label) for label in data.labels[rows].tolist()]
    if not by_class:
        return [captions[row] for row in rows.tolist()]
    classes = data.labels_of_captions()
    return [str(sorted(classes[captions[row].casefold()])) for row in rows.tolist()]
