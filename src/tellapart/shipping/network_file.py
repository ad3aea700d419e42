"""The network of exported weights as a file of its own, in plain PyTorch: what `weights.pth` is loaded into."""

from string import Template

from tellapart.errors import UsageError
from tellapart.models.bundle import Bundle
from tellapart.shipping.script import network_pieces

TEXT = Template('''"""The network that weights.pth is for, in plain PyTorch:

    from network import make_network
    network = make_network()
    network.load_state_dict(torch.load("weights.pth", weights_only=True))

It takes pictures (B, CHANNELS, SIZE, SIZE) with $colours from 0 to 1, less MEAN, over STD; one number for each
class comes out: the logits (B, classes).
"""

import json
from pathlib import Path
$imports
CLASSES = json.loads(Path(__file__).with_name("classes.json").read_text(encoding="utf-8"))
CHANNELS, SIZE = $channels, $size
MEAN, STD = $mean, $std


${network_source}def make_network():
    return $network
''')


def network_text(bundle: Bundle) -> str:
    """The text of the file, "" for a network that only other libraries, or files of its owner, know how to make."""
    to = bundle.preprocess
    try:
        pieces = network_pieces(bundle.architecture)
    except UsageError:
        return ""
    source = pieces["network_source"] + pieces["network"]
    needed = {"torch.": "import torch", "nn.": f"from torch import {pieces['from_torch']}"}
    needed["models."] = "from torchvision import models"
    imports = "\n".join(["", *(line for word, line in needed.items() if word in source), ""])
    colours = "RGB" if to.channels == 3 else "grey"
    numbers = {"channels": to.channels, "size": to.size, "mean": to.mean, "std": to.std}
    above = pieces["network_source"].lstrip("\n")
    return TEXT.substitute({**pieces, "network_source": above}, **numbers, colours=colours, imports=imports)
