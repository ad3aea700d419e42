"""What a training leaves that may not depend on where it was interrupted, as SHA-256 sums."""

import hashlib
import json
from pathlib import Path

from tellapart.models.bundle import load_bundle
from tellapart.training.checkpoint import newest_first

UNTIMED = ("seconds", "pictures_per_second", "waiting", "augmenting")


def sums(folder: Path) -> dict[str, str]:
    """The sums of the last checkpoint, the best model, the model file, the predictions and the records of a run."""
    last = newest_first(folder / "checkpoints")[0]
    best = json.loads((folder / "status.json").read_text())["checkpoints"]["best"]
    found = {file.name: file.read_bytes() for file in last.iterdir() if file.name != "manifest.json"}
    found |= {"best": (last.with_name(best) / "model.safetensors").read_bytes()}
    found |= {file.stem: file.read_bytes() for file in (folder / "predictions").iterdir()}
    state = load_bundle(folder / "model.safetensors").state
    found["model file"] = b"".join(name.encode() + tensor.numpy().tobytes() for name, tensor in sorted(state.items()))
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    plain = [{key: value for key, value in record.items() if key not in UNTIMED} for record in records]
    found["records"] = json.dumps(plain).encode()
    return {name: hashlib.sha256(raw).hexdigest() for name, raw in sorted(found.items())}
