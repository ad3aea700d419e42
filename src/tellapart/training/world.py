"""World: the processes of one training, as torchrun starts them. With one process every method is a formality."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._C._distributed_c10d import PrefixStore

from tellapart.data.loader import Batch
from tellapart.errors import Interrupted, TellapartError, Terminated, WorkerError
from tellapart.run import place
from tellapart.training.lifeline import LONGEST, Asked, Lifeline, met, opened
from tellapart.training.shards import awake
from tellapart.training.sync_norm import LENT

T = TypeVar("T")
STOPPED: dict[int, tuple[type[TellapartError], str]] = {
    130: (Interrupted, "Stopped by Ctrl-C."),
    143: (Terminated, "Stopped by SIGTERM."),
}


@dataclass(frozen=True)
class World:
    """Process `rank` of `size`. Sums and answers are the same, to the last bit, in every process.

    sharded: each holds a share of the weights, so that no forward pass is possible without the others.
    """

    rank: int = 0
    size: int = 1
    lifeline: Lifeline | None = None
    sharded: bool = False

    @property
    def share(self) -> tuple[int, int]:
        """What a loader must know of it."""
        return self.rank, self.size

    def network(self, model: nn.Module) -> nn.Module:
        """The network whose backward pass averages the gradients of all processes."""
        if self.size == 1 or self.sharded:
            return awake(model) if self.sharded else model
        network = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
        network.broadcast_buffers = False  # `joined` keeps them equal
        return network

    def meeting(self, network: nn.Module, batch: Batch, *, last: bool) -> AbstractContextManager:
        """While open, one part of a batch goes forward; with the last one, gradients meet those of the others."""
        return nullcontext() if self.size == 1 else self._meeting(network, batch, last=last)

    @contextmanager
    def _meeting(self, network: nn.Module, batch: Batch, *, last: bool) -> Iterator[None]:
        token = LENT.set(_lent(batch))
        if self.sharded:
            network.set_requires_gradient_sync(last)  # type: ignore[operator]
        with nullcontext() if last or self.sharded else network.no_sync():  # type: ignore[operator]
            yield
        LENT.reset(token)

    def weight(self, weight: Tensor | float, batch: Batch) -> Tensor | float:
        """What the pictures of all processes count together, from what these do."""
        if self.size == 1 or not isinstance(weight, Tensor):
            return weight if self.size == 1 else batch.counted
        return self._sum(weight * (not _lent(batch)))

    def factor(self, batch: Batch) -> int:
        """By what the loss of a part is multiplied, so that the average of the gradients becomes their sum."""
        return self.size * (not _lent(batch))

    def joined(self, loss: Tensor, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of the whole batch; running statistics become their means over all pictures."""
        return loss if self.size == 1 else self._joined(loss, model, batch)

    @torch.no_grad()
    def _joined(self, loss: Tensor, model: nn.Module, batch: Batch) -> Tensor:
        running = [b for b in model.buffers() if b.is_floating_point()]
        mine = 0.0 if _lent(batch) else len(batch) / batch.counted
        flat = torch.cat([loss.reshape(1) / self.size, *(b.flatten() * mine for b in running)])
        whole = self._sum(flat)
        for buffer, mean in zip(running, whole[1:].split([b.numel() for b in running]), strict=True):
            buffer.copy_(mean.view_as(buffer))
        return whole[0]

    def _sum(self, value: Tensor) -> Tensor:
        total = value.detach().clone()
        dist.all_reduce(total)
        return total

    def most(self, *numbers: float) -> list[float]:
        """The largest of each number in any process. On the CPU: a device is not waited for."""
        if self.size == 1:
            return list(numbers)
        found = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return found.tolist()

    def together(self, work: Callable[[], T]) -> T:
        """What `work` gives; when it raises a TellapartError in one process, it ends in all of them."""
        if self.size == 1:
            return work()
        found, mine = None, None
        try:
            found = work()
        except TellapartError as error:
            mine = error
            if self.lifeline is not None:
                self.lifeline.fail(error)
        code = int(self.most(mine.exit_code if mine else 0)[0])
        if mine is not None:
            raise mine
        if code:
            named = self.lifeline.failed() if self.lifeline is not None and code not in STOPPED else None
            raise named or _ending(code)
        return found  # type: ignore[return-value]

    def rows(
        self, work: Callable[[slice], NDArray[np.float32]], spans: Sequence[slice], *, columns: int
    ) -> NDArray[np.float32]:
        """The (N, columns) float32 that `work` gives for spans of N rows, each worked on by one process: the spans are
        the same for any number of processes, and so is every number.
        """
        own = spans[self.rank :: self.size]
        idle = self.sharded and len(own) * self.size < len(spans)  # the others need its share of the weights
        mine = self.together(lambda: [(span, work(span)) for span in [*own, *spans[:idle]]])[: len(own)]
        whole = np.zeros((spans[-1].stop, columns), np.float32)
        for span, values in mine:
            whole[span] = values
        if self.size > 1:
            dist.all_reduce(torch.from_numpy(whole.view(np.int32)))  # bits, of which all but one process have zeros
        return whole

    def read(self, batches: Iterable[T]) -> Iterable[T]:
        """The same batches; where no process can go forward alone, read before any does, and in all or in none."""
        return self.together(lambda: list(batches)) if self.sharded else batches

    def passed(self, raw: bytes = b"") -> bytes:
        """What the first process has, in every process."""
        length = torch.tensor([len(raw)])
        dist.broadcast(length, 0)
        found = (
            torch.frombuffer(bytearray(raw), dtype=torch.uint8) if raw else torch.empty(int(length), dtype=torch.uint8)
        )
        dist.broadcast(found, 0)
        return found.numpy().tobytes()

    def agreeing(self, asked: Asked, *others: Callable[[], bool]) -> "Agreed":
        """The question `asked`, and others, put to all processes at once."""
        return Agreed(self, asked, others)

    def watched(self, records: Iterator[T]) -> Iterator[T]:
        """The same records; the loss of another process becomes a WorkerError that names it."""
        with self.naming():
            yield from records

    @contextmanager
    def naming(self) -> Iterator[None]:
        """While open, the loss of another process becomes a WorkerError that names it."""
        try:
            yield
        except RuntimeError as error:
            lost = None if self.lifeline is None else self.lifeline.lost()
            if lost is None:
                raise
            raise lost from error


class Agreed:
    """Answers that are the same in all processes: they are found when `asked` is called, which all must do."""

    def __init__(self, world: World, asked: Asked, others: Sequence[Callable[[], bool]]) -> None:
        self.world, self.own, self.others = world, asked, others
        self.answers = [False] * len(others)

    def asked(self) -> TellapartError | None:
        """The ending that someone asked for in any of the processes."""
        ending = self.own()
        code, *answers = self.world.most(ending.exit_code if ending else 0, *(other() for other in self.others))
        self.answers = [bool(answer) for answer in answers]
        return ending or (_ending(int(code)) if code else None)

    def other(self, number: int) -> Callable[[], bool]:
        """What was answered to one of the other questions when `asked` was last called."""
        return lambda: self.answers[number]


def _ending(code: int) -> TellapartError:
    """What another process ended with, or was asked to end with."""
    kind, words = STOPPED.get(code, (WorkerError, "Another process of this training has ended."))
    return kind(words)


def _lent(batch: Batch) -> bool:
    return batch.share is not None and batch.share.lent


ALONE = World()


def join(asked: Asked = lambda: None) -> World:
    """The world that torchrun, or what else sets RANK and WORLD_SIZE, has put this process into; once a process.

    Raises WorkerError when the processes do not find each other, and the ending that `asked` returns meanwhile.
    """
    rank, size = place()
    if size > 1 and here().size == 1:
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        try:
            store = opened(first=rank == 0, asked=asked)
            word = met(store, rank, size, asked)
            own = lambda: PrefixStore(word, opened(first=False))  # noqa: E731
            backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
            group = PrefixStore(f"{word}/group", store)
            dist.init_process_group(backend, store=group, rank=rank, world_size=size, timeout=LONGEST)
            _HERE[0] = World(rank, size, lifeline := Lifeline(own, rank, size))
        except (RuntimeError, ValueError) as error:
            why = str(error).partition("\n")[0].rstrip(".")  # behind it torch tells of its own insides
            raise WorkerError(f"The {size} processes of this training did not find each other: {why}.") from error
        lifeline.start()
    return here()


_HERE = [ALONE]


def here() -> World:
    """The world this process has joined; that of one process until then."""
    return _HERE[0]
