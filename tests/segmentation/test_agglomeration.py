"""Every way to put fragments together: walls, gaps, thresholds, order and size, and what each has of its own."""

import sys
import time
from types import ModuleType

import elf.segmentation.features as elf_features
import numpy as np
import pytest
import torch
import waterz

from arzoo.base import registry
from arzoo.base.errors import ArzooError, MissingPackage, UnknownName
from arzoo.data.em import em_synthetic
from arzoo.metrics.scores.segmentation import segmentation_scores
from arzoo.models.tokenunify.affinities import NEAREST, affinities, without_borders
from arzoo.segmentation.agglomeration.mean_affinity import merged
from arzoo.segmentation.agglomeration.waterz import BINS, SCORE
from arzoo.segmentation.contacts import Contacts, contacts
from arzoo.segmentation.fragments import fragments
from arzoo.segmentation.numbers import renumbered
from arzoo.segmentation.segments import agglomerate, segments

METHODS = registry.names("agglomeration")
EACH = pytest.mark.parametrize("method", METHODS)


def halves(through, gap=2):
    """Affinities and fragments of two slices of two cells, four fragments each; the wall lets `through` at a gap."""
    predicted = torch.ones(3, 2, 8, 16)
    predicted[2, :, :, 8] = 0
    predicted[2, :, :gap, 8] = through
    parts = torch.arange(8).view(2, 2, 2).repeat_interleave(4, 1).repeat_interleave(8, 2) + 1
    return predicted, parts


def blocks(sides=(8, 24, 24), block=(2, 4, 4), seed=0):
    """Noisy affinities, and fragments that are blocks."""
    counts = [side // step for side, step in zip(sides, block, strict=True)]
    parts = torch.arange(counts[0] * counts[1] * counts[2]).view(counts) + 1
    for axis, step in enumerate(block):
        parts = parts.repeat_interleave(step, axis)
    rng = torch.Generator().manual_seed(seed)
    # Noise of whole contacts, on which methods do not agree by chance.
    coarse = torch.rand((3, *counts), generator=rng)
    for axis, step in enumerate(block, 1):
        coarse = coarse.repeat_interleave(step, axis)
    return (0.8 * coarse + 0.2 * torch.rand(coarse.shape, generator=rng)).clamp(0, 1), parts


def test_the_published_ones_and_the_plain_one_are_there():
    assert METHODS == ["mean_affinity", "multicut", "waterz"]


@EACH
@pytest.mark.parametrize("through", [0.0, 0.2])
def test_two_cells_with_a_wall_stay_two(method, through):
    predicted, parts = halves(through)
    found = agglomerate(predicted, parts, method)
    assert torch.equal(found, 1 + (torch.arange(16) >= 8).long().expand(2, 8, 16))


@EACH
def test_a_wall_that_is_not_there_makes_one_cell(method):
    assert agglomerate(*halves(1.0, gap=8), method).unique().tolist() == [1]


def test_waterz_goes_through_one_leak_that_the_others_close():
    found = {method: len(agglomerate(*halves(0.9, gap=1), method).unique()) for method in METHODS}
    assert found == {"mean_affinity": 2, "multicut": 2, "waterz": 1}


@EACH
def test_perfect_affinities_give_the_cells_back(method):
    volume = em_synthetic((8, 64, 64))
    predicted = affinities(without_borders(volume.labels[None]))[0]

    def voi(found):
        return segmentation_scores(found, volume.labels, borders=False).voi

    assert voi(agglomerate(predicted, fragments(predicted), method)) < 0.25
    # Fragments of python-elf have at least 100 pixels, which some of these cells have not.
    assert voi(segments(predicted, method)) < (0.75 if method == "multicut" else 0.25)
    assert voi(torch.ones_like(volume.labels)) > 3


@EACH
def test_thresholds_are_affinities(method):
    predicted, parts = blocks()
    counts = [len(agglomerate(predicted, parts, method, t).unique()) for t in (0, 0.25, 0.5, 0.75, 1)]
    assert counts[0] == 1
    assert counts[-1] == len(parts.unique())
    assert counts == sorted(counts)
    assert len(set(counts)) >= 4


@EACH
def test_what_does_not_touch_is_not_merged_and_0_touches_nothing(method):
    predicted, parts = torch.ones(3, 1, 4, 9), torch.ones(1, 4, 9).long()
    parts[..., 4:] = 0
    parts[..., 6:] = 5
    parts[..., 1] = 3
    assert agglomerate(predicted, parts, method)[0, 0].tolist() == [1, 1, 1, 1, 0, 0, 2, 2, 2]
    assert agglomerate(predicted, torch.zeros_like(parts), method).unique().tolist() == [0]


@EACH
def test_numbers_of_fragments_do_not_matter_and_nothing_is_written_over(method):
    predicted, parts = blocks()
    kept = predicted.clone(), parts.clone()
    found = agglomerate(predicted, parts, method)
    assert torch.equal(found, agglomerate(predicted, parts, method))
    order = torch.randperm(int(parts.max()), generator=torch.Generator().manual_seed(1)) + 1
    for others in (order[parts - 1], parts + 2**40, parts.flip(0).flip(0)):
        assert torch.equal(found, agglomerate(predicted, others, method))
    assert torch.equal(found, renumbered(found))
    assert torch.equal(predicted, kept[0])
    assert torch.equal(parts, kept[1])


@EACH
def test_thousands_of_fragments_take_seconds(method):
    predicted, parts = blocks((16, 80, 80))
    begin = time.process_time()
    agglomerate(predicted, parts, method)
    assert len(parts.unique()) == 3200
    assert time.process_time() - begin < 10


@EACH
def test_nothing_is_printed(method, capfd):
    agglomerate(*blocks(), method)
    assert capfd.readouterr().out == ""
    print("afterwards")
    assert capfd.readouterr().out == "afterwards\n"


@EACH
def test_fragments_in_another_order_of_memory(method):
    predicted, parts = blocks()
    turned = (
        predicted.movedim(0, -1).contiguous().movedim(-1, 0),
        parts.transpose(0, 2).contiguous().transpose(0, 2),
    )
    assert torch.equal(agglomerate(*turned, method), agglomerate(predicted, parts, method))
    assert torch.equal(agglomerate(predicted.double(), parts, method), agglomerate(predicted, parts, method))


def naive(graph, threshold):
    """Merge the best pair, and compute every mean anew."""
    parts = {n: {n} for n in graph.pairs.flatten().tolist()}
    rows = list(zip(graph.pairs.tolist(), graph.means.tolist(), graph.faces.tolist(), strict=True))
    while True:
        sums = dict[tuple[int, int], list[float]]()
        for (a, b), mean, faces in rows:
            pair = tuple(sorted(next(n for n in parts if x in parts[n]) for x in (a, b)))
            if pair[0] != pair[1]:
                total = sums.setdefault(pair, [0.0, 0])
                total[0], total[1] = total[0] + mean * faces, total[1] + faces
        best = max(sums, key=lambda p: sums[p][0] / sums[p][1], default=None)
        if best is None or sums[best][0] / sums[best][1] <= threshold:
            return {frozenset(group) for group in parts.values()}
        parts[best[0]] |= parts.pop(best[1])


@pytest.mark.parametrize("seed", range(3))
def test_means_are_those_of_all_faces_of_a_pair(seed):
    graph = contacts(*blocks((4, 12, 12), (1, 4, 4), seed))
    roots = merged(graph, int(graph.pairs.max()), 0.5).tolist()
    groups = {frozenset(n for n in range(1, len(roots)) if roots[n] == root) for root in set(roots[1:])}
    assert groups == naive(graph, 0.5)
    assert len(groups) > 1


def test_merging_changes_the_mean_of_a_pair():
    # 1 and 2 go first; then 3 sees both, over 1 face of 0.9 and 3 of 0.2.
    graph = Contacts(
        torch.tensor([[1, 2], [1, 3], [2, 3]]),
        torch.tensor([0.95, 0.9, 0.2]).double(),
        torch.tensor([4, 1, 3]),
    )
    assert merged(graph, 3, 0.5).tolist() == [0, 1, 1, 3]
    assert len(set(merged(graph, 3, 0.3).tolist())) == 2


def test_contacts_are_those_of_python_elf():
    predicted, parts = blocks()
    graph = contacts(predicted, parts)
    rag = elf_features.compute_rag(parts.numpy().astype("uint64"), n_threads=1)
    offsets = [list(offset) for offset in NEAREST]
    theirs = elf_features.compute_affinity_features(
        rag, parts.numpy().astype("uint64"), predicted.numpy(), offsets, n_threads=1
    )
    order = np.lexsort(rag.uv_ids().T[::-1])
    assert (rag.uv_ids()[order] == graph.pairs.numpy()).all()
    assert np.allclose(theirs[order, 0], graph.means.numpy(), atol=1e-6)
    assert (theirs[order, -1] == graph.faces.numpy()).all()


def test_waterz_writes_over_fragments_and_gives_one_array_for_all_thresholds():
    predicted, parts = (x.numpy() for x in blocks())
    given = parts.astype("uint64")
    found = list(
        waterz.agglomerate(
            predicted, [0.2, 0.9], fragments=given, scoring_function=SCORE, discretize_queue=BINS
        )
    )
    assert found[0] is found[1] is given
    assert (given != parts).any()


def test_waterz_scores_a_pair_by_its_highest_affinity():
    predicted, parts = halves(0.9, gap=1)
    steps = waterz.agglomerate(
        predicted[:, :1].contiguous().numpy(),
        [0.0],
        fragments=parts[:1].numpy().astype("uint64"),
        scoring_function=SCORE,
        discretize_queue=BINS,
        return_region_graph=True,
    )
    ((_, edges),) = steps
    scores = {(edge["u"], edge["v"]): edge["score"] for edge in edges}
    assert scores[1, 2] == pytest.approx(0.1, abs=1 / BINS)  # three of four faces have affinity 0


def test_a_method_that_is_not_there():
    with pytest.raises(UnknownName, match=r"agglomeration 'watrez'.*waterz"):
        segments(torch.ones(3, 1, 8, 8), "watrez")


@pytest.mark.parametrize(
    ("predicted", "threshold", "message"),
    [
        (torch.full((3, 1, 4, 4), 1.5), 0.5, "got 1.5 to 1.5: apply a sigmoid"),
        (torch.full((3, 1, 4, 4), float("nan")), 0.5, "got nan to nan"),
        (torch.ones(1, 3, 1, 4, 4), 0.5, r"channels along z, y and x, got \(1, 3, 1, 4, 4\)"),
        (torch.ones(3, 0, 4, 4), 0.5, r"got \(3, 0, 4, 4\)"),
        (torch.ones(3, 1, 4, 4), -0.1, r"in \[0, 1\], got -0.1"),
    ],
)
def test_what_cannot_be_segmented(predicted, threshold, message):
    with pytest.raises(ArzooError, match=message):
        segments(predicted, threshold=threshold)


def test_fragments_of_another_volume():
    with pytest.raises(ArzooError, match=r"fragments \(1, 4, 5\) do not fit affinities \(3, 1, 4, 4\)"):
        agglomerate(torch.ones(3, 1, 4, 4), torch.ones(1, 4, 5).long())


@pytest.mark.parametrize(
    ("method", "package"), [("waterz", "waterz"), ("multicut", "elf.segmentation.multicut")]
)
def test_packages_that_are_missing_or_do_not_work(monkeypatch, method, package):
    monkeypatch.setitem(sys.modules, package, ModuleType(package))
    with pytest.raises(ArzooError, match=r"is installed and failed .AttributeError.*mean_affinity"):
        agglomerate(*blocks(), method)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackage, match=r"arzoo\[neurons\]"):
        agglomerate(*blocks(), method)
