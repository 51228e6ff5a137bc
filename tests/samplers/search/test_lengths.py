"""After how many steps candidates are compared."""

import math

from searches import refused

from arzoo.samplers.search.lengths import fixed, geometric, linear


def test_lengths():
    assert geometric(16) == (1, 2, 4, 8, 16)
    assert geometric(10) == (1, 2, 4, 8, 10)
    assert geometric(6, 1.3) == (1, 2, 3, 4, 6)
    assert geometric(1) == (1,)
    assert geometric(6, 1 + 1e-12) == geometric(6, 1.1) == fixed(6)
    refused("a finite base above 1", geometric, 6, math.inf)
    assert linear(10, 4) == (4, 8, 10)
    assert linear(8, 4) == (4, 8)
    assert fixed(3) == (1, 2, 3)
