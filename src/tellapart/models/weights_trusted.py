"""The child that unpickles a whole model because someone trusts who made it: what the file says is run.

Only `tellapart model convert --trust` starts it.
"""

import json
import os
import sys
from pathlib import Path

import torch

from tellapart.models.weights_child import alone, state_of


def main(path: Path, to: Path) -> int:
    """Hand the tensors of a pickled module or table over as safetensors, or say on stdout why not."""
    from safetensors.torch import save_file

    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.path.insert(0, os.getcwd())  # where the classes of the model are, if anywhere
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=False)
        state = loaded.state_dict() if isinstance(loaded, torch.nn.Module) else state_of(loaded)
        save_file({name: alone(tensor) for name, tensor in state.items()}, to)
    except Exception as error:  # whatever the code in the file raises
        os.write(answers, json.dumps({"why": f"could not be unpickled: {error}"}).encode())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:3])))
