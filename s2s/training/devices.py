"""On what to train: one device or many, copies of the model or shards of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning_fabric.strategies import ModelParallelStrategy
from torch import nn

from s2s.errors import UserError
from s2s.training.config import LoopConfig

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def make_fabric(loop: LoopConfig) -> Fabric:
    """Processes as `training.devices` and `num_nodes` say, or as torchrun or SLURM has started them.

    `strategy=fsdp` shards parameters, gradients and optimiser state (FSDP2, `fully_shard`). Raises UserError for what
    this machine cannot do.
    """
    devices, nodes = _started(loop)
    strategy: Any = loop.strategy
    try:
        if strategy == "fsdp":
            strategy = ModelParallelStrategy(_shard, data_parallel_size=devices * nodes, tensor_parallel_size=1)
        return Fabric(
            accelerator=loop.accelerator,
            strategy=strategy,
            devices=devices,
            num_nodes=nodes,
            precision=loop.precision,  # type: ignore[arg-type]
        )
    except Exception as error:  # each accelerator has its own kind
        raise UserError(
            f"training.accelerator={loop.accelerator}, training.devices={devices}, training.strategy={loop.strategy}, "
            f"training.precision={loop.precision}: {str(error).splitlines()[0]} `s2s info` lists this machine's devices"
        ) from error


def _started(loop: LoopConfig) -> tuple[int, int]:
    """Devices of a node and nodes."""
    if TorchElasticEnvironment.detect():
        environment = TorchElasticEnvironment()
        local = _number("LOCAL_WORLD_SIZE", 1)
        return local, max(1, environment.world_size() // local)
    if SLURMEnvironment.detect():
        nodes = _number("SLURM_NNODES", 1)
        return max(1, _number("SLURM_NTASKS", 1) // nodes), nodes
    return loop.devices, loop.num_nodes


def _number(name: str, default: int) -> int:
    return int(os.environ.get(name, default))


def described(fabric: Fabric, loop: LoopConfig) -> str:
    """On what is trained, as it is told."""
    many = fabric.world_size
    return f"{fabric.device}" if many == 1 else f"{many} x {fabric.device.type}, {loop.strategy}"


def any_rank(fabric: Fabric, *flags: bool) -> list[bool]:
    """Which of the flags is true on one of the ranks at least; all ranks have to ask."""
    if fabric.world_size == 1:
        return list(flags)
    found = fabric.all_reduce(torch.tensor(flags, dtype=torch.float32, device=fabric.device), reduce_op="max")
    return [bool(flag) for flag in found.tolist()]  # type: ignore[union-attr]


def mean_of_ranks(fabric: Fabric, values: dict[str, float]) -> dict[str, float]:
    """The mean of each value over all ranks, which all know the same names; all have to ask."""
    if fabric.world_size == 1 or not values:
        return values
    found = fabric.all_reduce(
        torch.tensor(list(values.values()), dtype=torch.float64, device=fabric.device), reduce_op="mean"
    )
    return dict(zip(values, found.tolist(), strict=True))  # type: ignore[union-attr]


def whole_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a model that is sharded, whole and on the CPU of the first rank; all have to ask."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return get_model_state_dict(model, options=options)  # type: ignore[return-value]


def unshard(model: nn.Module) -> None:
    """Have every parameter whole on every rank, so that more of a model can be called than `forward`."""
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.unshard()


def reshard(model: nn.Module) -> None:
    """Take back `unshard`."""
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def _shard(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """The layers that are called as a whole each by themselves, inner ones first, and the rest together.

    Were a layer sharded that is also called by another of its methods, the gradients of that would be lost.
    """
    from torch.distributed.fsdp import fully_shard

    data = mesh["data_parallel"]
    for module in reversed(list(model.modules())):
        for layer in module if isinstance(module, nn.ModuleList) else ():
            called = [name for name, value in vars(type(layer)).items() if callable(value) and not name.startswith("_")]
            if called == ["forward"] and any(True for _ in layer.parameters()):
                fully_shard(layer, mesh=data)
    fully_shard(model, mesh=data)
    return model
