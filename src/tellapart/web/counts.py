"""What a server counts, in the text format of Prometheus. Numbers only: nothing of a picture, a name or a client."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

STEPS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper ends of the bins of latency, in seconds."""


class Counts:
    """Requests by path and status, how long they took, and what else is counted by name."""

    def __init__(self) -> None:
        self.began = time.time()
        self.requests: Counter[tuple[str, int]] = Counter()
        self.bins: Counter[tuple[str, float]] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.named: Counter[str] = Counter()

    def record(self, path: str, status: int, seconds: float) -> None:
        """One request that was answered. `path` is one of ours, never what a client wrote."""
        self.requests[path, status] += 1
        self.seconds[path] += seconds
        for step in STEPS:
            self.bins[path, step] += seconds <= step

    def text(self, gauges: Mapping[str, float]) -> str:
        """All of it; `gauges` are the numbers of this moment."""
        return "\n".join([*self._requests(), *self._latency(), *self._named(), *_gauges(gauges)]) + "\n"

    def _requests(self) -> Iterator[str]:
        yield from _head("requests_total", "counter", "Requests that were answered.")
        for (path, status), n in sorted(self.requests.items()):
            yield f'tellapart_requests_total{{path="{path}",status="{status}"}} {n}'

    def _latency(self) -> Iterator[str]:
        yield from _head("request_seconds", "histogram", "Seconds from the head of a request to its answer.")
        for path in sorted(self.seconds):
            n = sum(count for (of, _), count in self.requests.items() if of == path)
            for step in STEPS:
                yield f'tellapart_request_seconds_bucket{{path="{path}",le="{step}"}} {self.bins[path, step]}'
            yield f'tellapart_request_seconds_bucket{{path="{path}",le="+Inf"}} {n}'
            yield f'tellapart_request_seconds_sum{{path="{path}"}} {self.seconds[path]:.6f}'
            yield f'tellapart_request_seconds_count{{path="{path}"}} {n}'

    def _named(self) -> Iterator[str]:
        for name, what in (("gone", "Clients that went away."), ("readers_died", "Decoding children that ended.")):
            yield from _head(f"{name}_total", "counter", what)
            yield f"tellapart_{name}_total {self.named[name]}"


def _gauges(gauges: Mapping[str, float]) -> Iterator[str]:
    for name, value in gauges.items():
        kind = "counter" if name.endswith("_total") else "gauge"
        yield from _head(name, kind, name.removesuffix("_total").replace("_", " ").capitalize() + ".")
        yield f"tellapart_{name} {value:g}"


def _head(name: str, kind: str, what: str) -> tuple[str, str]:
    return f"# HELP tellapart_{name} {what}", f"# TYPE tellapart_{name} {kind}"
