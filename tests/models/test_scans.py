"""The scans of state-space models against the recurrence itself, and the choice between kernels and PyTorch."""

import sys
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F

from arzoo.base.errors import ArzooError
from arzoo.models.common import blocked_scan as blocked_module
from arzoo.models.common import scans
from arzoo.models.common.activations import softplus
from arzoo.models.common.blocked_scan import block_length, blocked_scan, blocked_step
from arzoo.models.common.chunked_scan import chunked_scan, chunked_step
from arzoo.models.common.short_conv import causal_conv

STEP_TOLERANCE = 4e-7
"""Largest difference of step and parallel pass in float32, relative to the largest value."""


def recurrence(x, dt, A, B, C, state):
    """Mamba-1, token by token."""
    outs = []
    for t in range(x.shape[1]):
        state = torch.exp(dt[:, t, None] * A) * state + (dt[:, t] * x[:, t])[:, None] * B[:, t, :, None]
        outs.append((state * C[:, t, :, None]).sum(1))
    return torch.stack(outs, 1), state


def grouped_recurrence(x, dt, A, B, C, state):
    """Mamba-2, token by token."""
    outs, heads = [], x.shape[2] // B.shape[2]
    for t in range(x.shape[1]):
        b, c = (part[:, t].repeat_interleave(heads, 1)[:, :, None] for part in (B, C))
        state = (
            torch.exp(dt[:, t] * A)[..., None, None] * state + (dt[:, t, :, None] * x[:, t])[..., None] * b
        )
        outs.append((state * c).sum(-1))
    return torch.stack(outs, 1), state


def inputs(length, rows=2, width=5, state=3, dtype=torch.float64, seed=0):
    """Inputs of Mamba-1; its steps decay by anything between nothing and all."""
    random = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=random, dtype=dtype)  # noqa: E731
    x, dt = draw(rows, length, width), F.softplus(2 * draw(rows, length, width))
    A, B, C = -draw(state, width).exp(), draw(rows, length, state), draw(rows, length, state)
    return [x, dt, A, B, C, draw(rows, state, width)]


def grouped_inputs(length, rows=2, heads=4, width=3, groups=2, state=3, dtype=torch.float64, seed=0):
    """Inputs of Mamba-2."""
    random = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=random, dtype=dtype)  # noqa: E731
    x, dt = draw(rows, length, heads, width), F.softplus(2 * draw(rows, length, heads))
    A, B, C = -draw(heads).exp(), draw(rows, length, groups, state), draw(rows, length, groups, state)
    return [x, dt, A, B, C, draw(rows, heads, width, state)]


VERSIONS = {
    "mamba1": (inputs, blocked_scan, blocked_step, recurrence),
    "mamba2": (grouped_inputs, chunked_scan, chunked_step, grouped_recurrence),
}


@pytest.fixture(params=VERSIONS)
def version(request):
    return VERSIONS[request.param]


def close(got, want, tolerance):
    assert got.shape == want.shape
    assert bool((got - want).abs().max() <= tolerance * want.abs().max())


@pytest.mark.parametrize("length", [1, 2, 3, 7, 64, 65, 129])
def test_any_length_equals_the_recurrence(version, length):
    make, scan, _, loop = version
    given = make(length)
    for got, want in zip(scan(*given), loop(*given), strict=True):
        close(got, want, 1e-12)
    zero = [*given[:5], torch.zeros_like(given[5])]
    for got, want in zip(scan(*given[:5]), loop(*zero), strict=True):
        close(got, want, 1e-12)


@pytest.mark.parametrize("length", [1, 6, 11])
@pytest.mark.parametrize("block", [1, 4, 64])
def test_gradients(version, length, block, monkeypatch):
    make, scan, *_ = version
    given = [part.requires_grad_() for part in make(length)]
    monkeypatch.setattr(blocked_module, "block_length", lambda rows, numbers: block)
    one = scan if scan is blocked_scan else lambda *parts: chunked_scan(*parts, chunk=block)
    assert torch.autograd.gradcheck(one, given)
    outputs = one(*given)
    for k in range(2):  # each output alone, so that the other has no gradient
        got = torch.autograd.grad(outputs[k].sum(), given, retain_graph=True, allow_unused=True)
        want = torch.autograd.grad(version[3](*given)[k].sum(), given, allow_unused=True)
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(
                torch.zeros(()) if b is None else a, torch.zeros(()) if b is None else b
            )


@pytest.mark.parametrize("cut", [1, 5, 63, 64, 99])
def test_a_scan_goes_on_where_another_ended(version, cut):
    make, scan, *_ = version
    x, dt, A, B, C, state = make(100)
    y, last = scan(x, dt, A, B, C, state)
    first, between = scan(x[:, :cut], dt[:, :cut], A, B[:, :cut], C[:, :cut], state)
    rest, end = scan(x[:, cut:], dt[:, cut:], A, B[:, cut:], C[:, cut:], between)
    close(torch.cat([first, rest], 1), y, 1e-12)
    close(end, last, 1e-12)


def test_steps_equal_the_parallel_pass(version):
    make, scan, step, _ = version
    x, dt, A, B, C, state = make(300, dtype=torch.float32)
    y, last = scan(x, dt, A, B, C, state)
    outs = []
    for t in range(x.shape[1]):
        out, state = step(x[:, t], dt[:, t], A, B[:, t], C[:, t], state)
        outs.append(out)
    close(torch.stack(outs, 1), y, STEP_TOLERANCE)
    close(state, last, STEP_TOLERANCE)


def test_low_precision_inputs_are_summed_in_float32(version):
    make, scan, *_ = version
    given = make(200, dtype=torch.float32)
    low = [given[0].bfloat16(), given[1], given[2], given[3].bfloat16(), given[4].bfloat16()]
    with torch.autocast("cpu", torch.bfloat16):
        y, state = scan(*low, given[5])
    want, last = scan(*(part.float() for part in low), given[5])
    assert y.dtype == torch.bfloat16
    assert state.dtype == torch.float32
    assert torch.equal(y, want.bfloat16())
    assert torch.equal(state, last)


def test_steps_of_zero_leave_the_state(version):
    make, scan, *_ = version
    x, dt, A, B, C, state = make(70)
    dt[:, 40:] = 0
    _, last = scan(x, dt, A, B, C, state)
    close(last, scan(x[:, :40], dt[:, :40], A, B[:, :40], C[:, :40], state)[1], 1e-12)


def test_decays_beyond_the_range_of_numbers_are_finite(version):
    make, scan, _, loop = version
    given = make(130, dtype=torch.float32)
    given[2] = given[2] * 1000  # a block decays by exp(-100000)
    for got, want in zip(scan(*given), loop(*given), strict=True):
        assert bool(got.isfinite().all())
        close(got, want, 1e-5)


def test_only_the_state_before_each_block_is_kept():
    given = [part.requires_grad_() for part in inputs(512, rows=8, width=512, state=16, dtype=torch.float32)]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        blocked_scan(*given)
    own = {part.data_ptr() for part in given}
    numbers = sum(x.numel() for x in kept if x.data_ptr() not in own)
    every = 512 * 8 * 512 * 16
    assert 0 < numbers <= every / block_length(8, 512 * 16)


@pytest.mark.parametrize("kernel", [1, 2, 4, 5])
def test_convolution(kernel):
    random = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float64).requires_grad_()  # noqa: E731
    x, weight, bias, past = draw(2, 7, 3), draw(3, 1, kernel), draw(3), draw(2, kernel - 1, 3)
    want = F.conv1d(torch.cat([past, x], 1).mT, weight, bias, groups=3).mT
    close(causal_conv(x, weight, bias, past), want, 1e-12)
    close(causal_conv(x, weight, bias), causal_conv(x, weight, bias, torch.zeros_like(past)), 1e-12)
    assert torch.autograd.gradcheck(causal_conv, (x, weight, bias, past))


@pytest.mark.parametrize("width", [8, 33, 72])
def test_softplus_rounds_rows_alike(width):
    x = torch.linspace(-30, 30, 50 * width).view(50, width)
    assert torch.equal(softplus(x), torch.cat([softplus(row[None]) for row in x]))
    torch.testing.assert_close(softplus(x), F.softplus(x))


class Kernels:
    """A stand-in for the two packages, whose kernels are our own functions or fail."""

    def __init__(self, monkeypatch, wrong=False):
        self.calls = []

        def selective(u, delta, A, B, C, return_last_state):
            self.calls.append("selective_scan")
            y, state = blocked_scan(u.mT, delta.mT, A.t(), B.mT, C.mT)
            return (2 * y if wrong else y).mT, state.mT

        def grouped(x, dt, A, B, C, chunk, initial_states, return_final_states):
            self.calls.append("grouped_scan")
            return chunked_scan(x, dt, A, B, C, initial_states)

        def convolve(x, weight, bias):
            self.calls.append("short_conv")
            return causal_conv(x.mT, weight[:, None], bias).mT

        functions = {
            "mamba_ssm.ops.selective_scan_interface": ("selective_scan_fn", selective),
            "mamba_ssm.ops.triton.ssd_combined": ("mamba_chunk_scan_combined", grouped),
            "causal_conv1d": ("causal_conv1d_fn", convolve),
        }
        for name, (attribute, function) in functions.items():
            module = ModuleType(name)
            setattr(module, attribute, function)
            monkeypatch.setitem(sys.modules, name, module)
        for name in ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.triton"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))


@pytest.fixture
def probes():
    scans._probe.cache_clear()
    yield
    scans._probe.cache_clear()


def as_if_on_cuda(monkeypatch):
    """Let tensors of this machine count as those of a device with kernels."""
    monkeypatch.setattr(
        scans, "_kernel", lambda name, x: x.dtype != torch.float64 and not scans._probe(name, x.device)
    )


def test_kernels_that_work_are_used_and_others_are_not(monkeypatch, probes):
    as_if_on_cuda(monkeypatch)
    kernels = Kernels(monkeypatch)
    one, two = inputs(9, dtype=torch.float32), grouped_inputs(9, dtype=torch.float32)
    for got, want in zip(scans.selective_scan(*one[:5]), blocked_scan(*one[:5]), strict=True):
        assert torch.equal(got, want)
    for got, want in zip(scans.grouped_scan(*two), chunked_scan(*two), strict=True):
        assert torch.equal(got, want)
    weight, bias = torch.ones(5, 1, 4), torch.zeros(5)
    assert torch.equal(scans.short_conv(one[0], weight, bias), causal_conv(one[0], weight, bias))
    assert sorted(set(kernels.calls)) == ["grouped_scan", "selective_scan", "short_conv"]
    count = len(kernels.calls)
    scans.selective_scan(*one)  # the kernel takes no state to start from
    scans.selective_scan(*inputs(9)[:5])  # nor float64
    scans.short_conv(one[0], weight, bias, torch.zeros(2, 3, 5))
    assert len(kernels.calls) == count


def test_a_kernel_that_gives_other_numbers_or_fails_is_not_used(monkeypatch, probes):
    device = torch.device("cpu")
    Kernels(monkeypatch, wrong=True)
    assert "gives other numbers" in scans._probe("selective_scan", device)
    assert scans._probe("grouped_scan", device) == ""
    scans._probe.cache_clear()
    monkeypatch.setattr(
        sys.modules["causal_conv1d"],
        "causal_conv1d_fn",
        lambda *a: (_ for _ in ()).throw(RuntimeError("no image")),
    )
    assert "causal-conv1d fails: no image" in scans._probe("short_conv", device)
    monkeypatch.setitem(sys.modules, "causal_conv1d", None)
    scans._probe.cache_clear()
    assert "is not installed, or was built without this kernel" in scans._probe("short_conv", device)


def test_the_switch(monkeypatch, probes):
    assert set(scans.paths("cpu").values()) == {"PyTorch"}
    monkeypatch.setenv("ARZOO_SCAN", "pure")
    assert set(scans.paths("cuda").values()) == {"PyTorch (ARZOO_SCAN=pure)"}
    monkeypatch.setenv("ARZOO_SCAN", "fast")
    with pytest.raises(ArzooError, match="ARZOO_SCAN must be auto or pure, got 'fast'"):
        scans.paths("cpu")
