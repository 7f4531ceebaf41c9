"""Layers that stay what they are: through pickle with parametrized weights, and through weights of other settings."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.utils import parametrize


class Kept:
    """A layer that can be pickled, and that refuses weights which belong to other settings than its own.

    torch gives a module with parametrized weights a class of its own, which cannot be pickled: here it is made again.
    A state dict has the settings in its metadata, which files of safetensors have if `replication.save` writes them.

    Attributes:
        settings: names of the attributes that, beside the weights, decide what the layer computes.
    """

    settings: ClassVar[tuple[str, ...]] = ()

    def __reduce_ex__(self, protocol: Any) -> Any:
        if not (isinstance(self, nn.Module) and parametrize.is_parametrized(self)):
            return super().__reduce_ex__(protocol)
        return parametrized, (parametrize.type_before_parametrizations(self), self.__dict__)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)  # type: ignore[misc]
        metadata = getattr(destination, "_metadata", {})
        metadata.setdefault(prefix[:-1], {})["settings"] = {name: getattr(self, name) for name in self.settings}

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, *rest: Any) -> None:
        made_with = local_metadata.get("settings", {})
        for name in self.settings:
            if name in made_with and made_with[name] != getattr(self, name):
                raise ValueError(
                    f"the weights belong to {name}={made_with[name]!r}, and {prefix[:-1] or type(self).__name__} has "
                    f"{name}={getattr(self, name)!r}; make it with the settings of the weights"
                )
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)  # type: ignore[misc]


def parametrized(kind: type[nn.Module], state: dict[str, Any]) -> nn.Module:
    """Return a module of this kind and state whose weights are parametrized as those of the state are."""
    module: nn.Module = kind.__new__(kind)
    modules = dict(state["_modules"])
    parametrizations = modules.pop("parametrizations")
    module.__setstate__(state | {"_modules": modules, "_parameters": dict(state["_parameters"])})
    for name in parametrizations:
        module.register_parameter(name, nn.Parameter(torch.empty(0)))
        parametrize.register_parametrization(
            module, name, nn.Identity(), unsafe=True
        )  # makes the class and the property
    module.parametrizations = parametrizations
    return module
