"""Put together the fragments with the highest mean affinity first; needs no other package."""

from __future__ import annotations

import heapq

import torch
from torch import Tensor

from arzoo.base.registry import register
from arzoo.segmentation.contacts import Contacts, contacts


@register("agglomeration")
def mean_affinity(affinities_3ZYX: Tensor, fragments_ZYX: Tensor, threshold: float = 0.5) -> Tensor:
    """Merge the pair with the highest mean affinity over its faces, again and again, while it is above the threshold.

    The affinity of a pair that was merged with others is the mean over all its faces. Equal means go by number.
    """
    return merged(contacts(affinities_3ZYX, fragments_ZYX), int(fragments_ZYX.max()), threshold)[
        fragments_ZYX
    ]


def merged(graph: Contacts, count: int, threshold: float) -> Tensor:
    """Merge a graph of fragments 1 to `count`, see `mean_affinity`; returns (N + 1,) the segment of each, 0 first."""
    neighbours: list[dict[int, tuple[float, int]]] = [{} for _ in range(count + 1)]  # sum and number of faces
    rows = zip(graph.pairs.tolist(), (graph.means * graph.faces).tolist(), graph.faces.tolist(), strict=True)
    queue = list[tuple[float, int, int]]()
    for (a, b), total, faces in rows:
        neighbours[a][b] = neighbours[b][a] = (total, faces)
        if total / faces > threshold:
            queue.append((-total / faces, a, b))
    heapq.heapify(queue)
    parents = list(range(count + 1))
    while queue:
        score, a, b = heapq.heappop(queue)
        contact = neighbours[a].get(b)
        if contact is None or -contact[0] / contact[1] != score:
            continue  # one of both has grown since
        if len(neighbours[a]) < len(neighbours[b]):
            a, b = b, a
        parents[b] = a
        del neighbours[a][b], neighbours[b][a]
        for other, (total, faces) in neighbours[b].items():
            del neighbours[other][b]
            more, most = neighbours[a].get(other, (0.0, 0))
            total, faces = total + more, faces + most
            neighbours[a][other] = neighbours[other][a] = (total, faces)
            if total / faces > threshold:
                heapq.heappush(queue, (-total / faces, min(a, other), max(a, other)))
        neighbours[b] = {}
    roots = torch.tensor(parents)
    while not torch.equal(roots, deeper := roots[roots]):
        roots = deeper
    return roots
