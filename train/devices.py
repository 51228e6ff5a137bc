"""Placement of modules on devices and processes with accelerate: one process, DDP or FSDP2."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin, parse_flag_from_env
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint, noop_context_fn

from arzoo.base.errors import ArzooError
from arzoo.core.blocks import repeated_blocks
from arzoo.core.contracts import Backbone
from arzoo.generation.kernels import bfloat_units
from arzoo.train.settings import RunConfig


def processes() -> PartialState:
    """Return the group of processes of a launcher. Without accelerators they compute on the CPU and use gloo.

    On a machine without accelerators, accelerate by itself treats every process as a separate run, unless
    `ACCELERATE_USE_CPU` is set.
    """
    group = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
    if group.num_processes == 1 and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        PartialState._reset_state()
        group = PartialState(cpu=True)
    return group


def computed(precision: str) -> str:
    """Return the precision that a run computes in.

    A CPU without instructions for bfloat16 emulates them: on one with AVX2, a product of 2048 x 256 x 1024 took 35
    times as long as in float32. There "bf16" is computed as "fp32".
    """
    emulated = precision == "bf16" and processes().device.type == "cpu" and not bfloat_units()
    return "fp32" if emulated else precision


def make_accelerator(run: RunConfig, module: nn.Module) -> Accelerator:
    """Return the accelerator of a run.

    Args:
        run: Precision and sharding of the weights.
        module: The module to train; its repeated blocks are the units of sharding.

    Raises:
        ArzooError: The batch is not a multiple of processes and micro-batches; or sharding is chosen and there is one
            process only, or the module has no repeated blocks.
    """
    AcceleratorState._reset_state()  # one process may train several runs, one after another
    processes()
    plugin = _sharding(module) if run.sharded else None
    accelerator = Accelerator(
        mixed_precision="bf16" if computed(run.precision) == "bf16" else "no",
        fsdp_plugin=plugin,
        step_scheduler_with_optimizer=False,
    )
    if run.batch % (run.accumulate * accelerator.num_processes):
        raise ArzooError(
            f"run.batch={run.batch} is not divisible by {run.accumulate} micro-batches x "
            f"{accelerator.num_processes} processes; choose a multiple of "
            f"{run.accumulate * accelerator.num_processes}"
        )
    if run.sharded and accelerator.num_processes == 1:
        raise ArzooError(
            "run.sharded splits the model over processes and there is one. Start several: torchrun "
            "--nproc-per-node 8 -m arzoo.cli train RECIPE --run.sharded true"
        )
    if run.sharded and accelerator.distributed_type != DistributedType.FSDP:
        # accelerate offers FSDP2 on accelerators only; torch has it on CPUs too, where it is tested.
        state = AcceleratorState()
        state.fsdp_plugin = plugin
        state._shared_state["distributed_type"] = state.distributed_type = DistributedType.FSDP
        accelerator.state.distributed_type = DistributedType.FSDP
    return accelerator


def checkpoint_blocks(module: nn.Module, contexts: Callable[[], Any] = noop_context_fn) -> None:
    """Make every block recompute its activations in the backward pass instead of keeping them.

    Args:
        module: The module with the blocks.
        contexts: Returns the contexts of the first and of the second computation.

    Raises:
        ArzooError: The module has no repeated blocks.
    """
    blocks = repeated_blocks(module)
    if not blocks:
        raise ArzooError(
            f"run.checkpointing works on networks that name their repeated blocks; {_named(module)} names none. Leave "
            "it out"
        )
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, context_fn=contexts)


def _named(module: nn.Module) -> str:
    """Class name of the network, for messages."""
    trunk = next((part for part in module.modules() if isinstance(part, Backbone)), module)
    return type(trunk).__name__


def mean_of_processes(numbers: dict[str, Any], accelerator: Accelerator) -> dict[str, Any]:
    """Average numbers, or lists of them, by name over all processes, which must all call this."""
    if accelerator.num_processes == 1:
        return numbers
    device = accelerator.device
    tensors = {k: torch.as_tensor(v, dtype=torch.float, device=device) for k, v in sorted(numbers.items())}
    averaged: dict[str, Any] = accelerator.reduce(tensors, "mean")
    return averaged


def full(tensor: Tensor) -> Tensor:
    """Gather a tensor that may be split over the processes, on the CPU. All processes must call it."""
    tensor = tensor.detach()
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).cpu()


def local(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this process holds; it shares the memory."""
    tensor = tensor.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def assign(target: Tensor, value: Tensor) -> None:
    """Copy a complete tensor into one that may be split over the processes."""
    if isinstance(target, DTensor):
        from torch.distributed.tensor import distribute_tensor

        value = distribute_tensor(value.to(target.device), target.device_mesh, target.placements)
    target.copy_(value)


def _sharding(module: nn.Module) -> FullyShardedDataParallelPlugin:
    classes = sorted({type(block).__name__ for block in repeated_blocks(module)})
    if not classes:
        raise ArzooError(
            f"run.sharded works on networks that name their repeated blocks; {_named(module)} names none. Train it "
            "without: every process then has a copy (DDP)"
        )
    return FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap", transformer_cls_names_to_wrap=classes
    )
