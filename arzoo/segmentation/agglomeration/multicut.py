"""Cut the graph of fragments where that costs least, with the package python-elf."""

from __future__ import annotations

import torch
from torch import Tensor

from arzoo.base.errors import require
from arzoo.base.registry import register
from arzoo.segmentation.contacts import contacts
from arzoo.segmentation.packages import working

LEAST_BIAS = 1e-6
"""Thresholds are at least so far from 0 and 1, where costs have no end."""


@register("agglomeration")
def multicut(affinities_3ZYX: Tensor, fragments_ZYX: Tensor, threshold: float = 0.5) -> Tensor:
    """Choose all cuts at once: each pair costs log((1 - p) / p) times its faces, where p is 1 less its mean affinity.

    "Multicut brings automated neurite segmentation closer to human performance", 2017, with the settings of
    "TokenUnify", 2025: p is brought into [0.001, 0.999], and a greedy solution is improved by the method of Kernighan
    and Lin. The threshold moves all costs, so that a pair with this affinity costs nothing; the published one is 0.5.

    Raises:
        MissingPackage: The extra `neurons` is not installed.
        ArzooError: The installed python-elf cannot do this.
    """
    solver, graphs = require("elf.segmentation.multicut", "neurons"), require("bioimage_cpp", "neurons").graph
    graph = contacts(affinities_3ZYX, fragments_ZYX)
    if not len(graph.pairs):
        return fragments_ZYX.clone()
    bias = min(max(threshold, LEAST_BIAS), 1 - LEAST_BIAS)
    with working("python-elf", "python-elf>=0.9.2"):
        costs = solver.transform_probabilities_to_costs(
            1 - graph.means.numpy(), beta=bias, edge_sizes=graph.faces.double().numpy()
        )
        nodes = int(fragments_ZYX.max()) + 1
        edges = graphs.UndirectedGraph.from_edges(nodes, graph.pairs.numpy().astype("uint64"))
        parts = solver.multicut_kernighan_lin(edges, costs)
    # Node 0 is no fragment and has no edge, so its part is its own.
    return (torch.from_numpy(parts.astype("int64")) + 1)[fragments_ZYX] * (fragments_ZYX > 0)
