"""One pass through a network, watched: every layer and every call between layers, in the order they happen."""

import operator
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.overrides import TorchFunctionMode

from tellapart.errors import UsageError
from tellapart.models.look import WEIGHTED, still
from tellapart.models.mismatch import Where, mismatch
from tellapart.models.receptive import Field, Window, after, of_picture, window_of

Shape = tuple[int, ...]
HELD = nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear, nn.MultiheadAttention
"""The "weight layers" of a network; attention is two."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A layer, or a call of torch outside every layer (`module` is None, `path` that of the module it is in).

    `sources`: the steps whose results it was given, -1 for the picture. Parameters are counted at their first use.
    `size`: bytes of the result, 0 when it lies where an input lies (in place, a view). `weight_layers`: 1 for a
    convolution or a linear layer, 2 for attention.
    """

    path: str
    name: str
    module: nn.Module | None
    sources: tuple[int, ...]
    inputs: tuple[Shape, ...]
    output: Shape
    multiply_adds: int = 0
    trained: int = 0
    frozen: int = 0
    weight_layers: int = 0
    size: int = 0
    again: bool = False
    field: Field | None = None
    window: Window | None = None

    @property
    def parameters(self) -> int:
        """Trained and frozen ones."""
        return self.trained + self.frozen


@dataclass(frozen=True)
class Trace:
    """The steps of one pass of `picture` (B C H W); `unused`: parameters that no step used, by name;
    `calls`: the functions of torch that ran, inside layers too; `kinds`: the class of each module.
    """

    steps: tuple[Step, ...]
    picture: Shape
    output: Shape
    unused: dict[str, nn.Parameter]
    calls: tuple[str, ...]
    kinds: dict[str, str]

    @property
    def trained(self) -> int:
        """Numbers that training changes."""
        return sum(s.trained for s in self.steps) + sum(p.numel() for p in self.unused.values() if p.requires_grad)

    @property
    def frozen(self) -> int:
        """Numbers that stay as they are."""
        return sum(s.frozen for s in self.steps) + sum(p.numel() for p in self.unused.values() if not p.requires_grad)

    def head(self) -> list[Step]:
        """The linear layers at the end that work on rows of numbers, not on maps or tokens."""
        found = []
        for step in reversed(self.steps):
            if step.parameters and len(step.inputs[0] if step.inputs else ()) != 2:
                break
            found.append(step)
        return [step for step in reversed(found) if step.parameters]


class Uncounted(nullcontext[None]):
    """Counts no multiply-adds: torch's own counter loads half a compiler, which takes seconds."""

    def get_total_flops(self) -> int:
        """Nothing."""
        return 0


def trace(model: nn.Module, picture: Tensor, *, name: str = "The network", counter: Uncounted | None = None) -> Trace:
    """One pass of `picture` (B C H W, on the model's device) in eval mode, without gradients.

    Multiply-adds are half of what torch.utils.flop_counter counts, unless another counter is given. A module without
    children is a layer, and so is attention. Hooks and training flags are as before afterwards, also after an error.
    Raises UsageError, with the path of the layer and the numbers that do not match, when the network cannot take it.
    """
    with ExitStack() as stack:
        stack.enter_context(still(model))
        watch = _Watch(model, picture, counter or stack.enter_context(_flops()))
        stack.enter_context(hooked(model, watch.enter, watch.leave))
        stack.enter_context(watch)
        try:
            result = model(picture)
        except (RuntimeError, ValueError, TypeError, AssertionError, IndexError, NotImplementedError) as error:
            message, hint = mismatch(error, watch.where(), tuple(picture.shape), name)
            raise UsageError(message, hint) from error
    if not isinstance(result, Tensor):
        raise UsageError(f"{name} gives a {type(result).__name__}; expected one tensor, pictures by classes.")
    unused = {path: p for path, p in model.named_parameters() if id(p) in watch.unseen}
    kinds = {path: type(module).__name__ for path, module in model.named_modules()}
    return Trace(tuple(watch.steps), tuple(picture.shape), tuple(result.shape), unused, tuple(watch.calls), kinds)


def _flops() -> Any:
    from torch.utils.flop_counter import FlopCounterMode

    return FlopCounterMode(display=False)


@dataclass(frozen=True)
class _Running:
    """A module at work: what it was given, whether it is a layer, and the operations counted before it."""

    module: nn.Module
    path: str
    given: list[Tensor]
    layer: bool
    before: int


class _Watch(TorchFunctionMode):
    """Sees every torch call and, by hooks, every module; tensors are told apart by identity and kept alive for it."""

    def __init__(self, model: nn.Module, picture: Tensor, counter: Any) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self._failed = ""
        self.calls: list[str] = []
        self._counter = counter
        self._paths = {id(module): path for path, module in model.named_modules()}
        self._maker: dict[int, int] = {id(picture): -1}
        self._fields: dict[int, Field | None] = {id(picture): of_picture(picture.shape)}
        self._window: Window | None = None
        self._kept: list[Any] = [picture]
        self._running: list[_Running] = []
        self._done: set[int] = set()
        self.unseen = {id(p): p for p in model.parameters()}

    def where(self) -> Where:
        """The innermost module at work, with what it was given."""
        running = self._running[-1]
        given = tuple(running.given[0].shape) if running.given else ()
        maps = (
            s.inputs[0][1:] for s in reversed(self.steps) if s.output == given and s.inputs and len(s.inputs[0]) > 2
        )
        flattened = next(maps, ()) if len(given) == 2 else ()
        return Where(running.path, running.module, given, self._failed, flattened)

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forward pre-hook."""
        layer = not module._modules or isinstance(module, nn.MultiheadAttention) or is_parametrized(module)
        given = list(tensors((args, kwargs)))
        path = self._paths.get(id(module), "")
        self._running.append(_Running(module, path, given, layer or self._inside(), self._counter.get_total_flops()))

    def leave(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Forward hook: the step of a layer; what is around layers shows itself by its calls."""
        running = self._running.pop()
        if not running.layer or self._inside():
            return
        held = 2 if isinstance(module, nn.MultiheadAttention) else int(isinstance(module, HELD))
        again = id(module) in self._done
        self._done.add(id(module))
        self._add(running, type(module).__name__, module, list(module.parameters()), output, weights=held, again=again)
        self._window = None

    def _inside(self) -> bool:
        return any(running.layer for running in self._running)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given, before = list(tensors((args, kwargs))), self._counter.get_total_flops()
        name = call_name(func)
        try:
            result = func(*args, **kwargs)
        except Exception:
            self._failed = name
            raise
        made = list(tensors(result)) or (given[:1] if name == "setitem" else [])
        derived = [(t, self._fields[id(t)]) for t in given if id(t) in self._fields]
        if made:
            self.calls.append(name)
        if made and derived:
            self._window = window_of(name, args, kwargs) or self._window
            found = [(one, after(name, args, kwargs, derived, one)) for one in made]
            self._fields.update({id(one): field for one, field in found})
        self._kept += made
        stored = [t for t in given if id(t) in self.unseen]
        if self._running and not self._inside() and made and (stored or any(id(t) in self._maker for t in given)):
            at = self._running[-1]
            here = _Running(at.module, at.path, given, False, before)
            weights = sum(p.dim() > 1 for p in stored) if name in WEIGHTED else 0
            self._add(here, name, None, stored, made, weights=weights, again=False)
            self._window = None
        return result

    def _add(
        self,
        at: _Running,
        name: str,
        module: nn.Module | None,
        stored: Iterable[Tensor],
        output: Any,
        *,
        weights: int,
        again: bool,
    ) -> None:
        made, given = list(tensors(output)), [t for t in at.given if id(t) in self._maker]
        fresh = [p for p in stored if self.unseen.pop(id(p), None) is not None]
        apart = {_storage(t) for t in at.given}
        step = Step(
            path=at.path,
            name=name,
            module=module,
            sources=tuple(dict.fromkeys(self._maker[id(t)] for t in given)),
            inputs=tuple(tuple(t.shape) for t in given),
            output=tuple(made[0].shape) if made else (),
            multiply_adds=(self._counter.get_total_flops() - at.before) // 2,
            trained=sum(p.numel() for p in fresh if p.requires_grad),
            frozen=sum(p.numel() for p in fresh if not p.requires_grad),
            weight_layers=0 if again else weights,
            size=sum(t.numel() * t.element_size() for t in made if _storage(t) not in apart),
            again=again,
            field=self._fields.get(id(made[0])) if made else None,
            window=self._window,
        )
        self._maker.update({id(t): len(self.steps) for t in made})
        self._kept += made
        self.steps.append(step)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


@contextmanager
def hooked(model: nn.Module, enter: Callable[..., None], leave: Callable[..., None]) -> Iterator[None]:
    """While open, each module is entered with (module, args, kwargs), and left with these and its output."""
    handles = []
    try:
        for module in model.modules():
            handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
            handles.append(module.register_forward_hook(leave, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested lists, tuples and dicts, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors(part)
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))


def call_name(func: Any) -> str:
    """A torch function's name as read: relu_ -> relu, __iadd__ -> add, Tensor.T.__get__ -> T, relu.default -> relu."""
    name = func.__name__
    if name == "__get__":
        return func.__self__.__name__
    core = name.split(".")[0].strip("_")
    if name.startswith("__") and core[0] in "ir" and f"__{core[1:]}__" in vars(operator):
        return core[1:]  # in-place and reflected operators: the same arithmetic
    return core
