"""The section [optim] of a recipe: how the loss is made small."""

from dataclasses import dataclass

from tellapart import names
from tellapart.recipe_values import setting as _f


@dataclass(frozen=True, kw_only=True)
class Optim:
    """How it is made small."""

    name: str = _f(
        None,
        "the optimiser (auto: sgd; adamw for a pretrained network)",
        kind=str,
        choices=names.OPTIMIZERS,
        flag="--optimizer",
    )
    lr: float = _f(None, "peak learning rate (each optimiser has its own default)", kind=float, flag="--lr", above=0.0)
    momentum: float = _f(0.9, "momentum of sgd, muon and rmsprop", low=0.0, high=0.9999)
    dampening: float = _f(0.0, "dampening of sgd's momentum", low=0.0, high=1.0)
    nesterov: bool = _f(None, "Nesterov momentum for sgd (on where there is momentum without dampening)", kind=bool)
    beta1: float = _f(0.9, "how slowly the mean of the gradients moves (adam and its kin)", low=0.0, high=0.9999)
    beta2: float = _f(0.999, "how slowly the mean of their squares moves (adam and its kin)", low=0.0, high=0.999999)
    weight_decay: float = _f(5e-4, "penalty on the weights; norms and biases are spared", low=0.0)
    schedule: str = _f("one-cycle", "how the learning rate moves", choices=names.SCHEDULES)
    warmup: float = _f(None, "share of the steps in which the rate rises from a tenth", kind=float, low=0.0, high=0.9)
    step_every: int = _f(7, "epochs between drops of the `step` schedule", low=1)
    step_factor: float = _f(0.1, "factor of each drop of the schedules `step` and `plateau`", above=0.0, high=1.0)
    plateau_after: int = _f(3, "epochs without a better validation before `plateau` drops the rate", low=1)
    clip: float = _f(0.0, "largest norm of the gradients, longer ones are shortened (0: any)", low=0.0)
    rates: str = _f("", "factors of the rate by names of weights: features.*=0.1,classifier.*=1")
    layer_decay: float = _f(1.0, "factor of the rate from each block to the one before it", above=0.0, high=1.0)
    unfreeze_every: int = _f(0, "epochs until one more block, from the head on, is trained (0: all at once)", low=0)

    def plain_momentum(self) -> bool:
        """Whether Nesterov momentum is possible: there is a momentum, and no dampening of it."""
        return self.momentum > 0 and not self.dampening
