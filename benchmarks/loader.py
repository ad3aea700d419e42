"""Pictures to ready batches: ours against ImageFolder + DataLoader with the same transforms on the same files.

    uv run python benchmarks/loader.py --rounds 5
    uv run python benchmarks/loader.py --pictures FOLDER_OF_CLASS_FOLDERS --size 224

A ready batch is (B C S S) float32: the centre square resized, moved by up to a tenth, mirrored, normalised. Both sides
run in turn in processes of their own; CPU-seconds of the process and its workers are counted, because the machine is
shared. The first epoch begins with files and an empty cache; later ones are what comes after it. Printed: pictures per
CPU-second and the ratios, with their lowest and highest; and the time of a later epoch against the same batches from a
tensor that is in memory already.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

BATCH, LATER = 64, 3


def make_pictures(root: Path, *, kind: str, n: int) -> Path:
    """A folder of two classes of n pictures in all: textured JPEGs of about 500 x 375, or 28 x 28 grey PNGs."""
    chance = np.random.default_rng(0)
    for k in range(2):
        (root / f"class{k}").mkdir(parents=True)
    for row in range(n):
        path = root / f"class{row % 2}"
        if kind == "png":
            Image.fromarray(chance.integers(0, 256, (28, 28), np.uint8)).save(path / f"{row}.png")
            continue
        coarse = Image.fromarray(chance.integers(0, 256, (24, 32, 3), np.uint8)).resize((500, 375), 3)
        grain = chance.integers(-12, 13, (375, 500, 1))
        Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)).save(
            path / f"{row}.jpg", quality=90
        )
    return root


def cpu() -> float:
    """CPU-seconds of this process and of its ended children."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def timed(epochs) -> dict[str, list[float]]:
    """CPU- and wall-seconds of each of some epochs, which are called with their number."""
    used = {"cpu": [], "wall": []}
    for number in range(1 + LATER):
        began = cpu(), time.perf_counter()
        epochs(number)
        used["cpu"].append(cpu() - began[0])
        used["wall"].append(time.perf_counter() - began[1])
    return used


def ours(root: Path, size: int, channels: int) -> dict:
    """The loader of tellapart, with an empty cache at first; and the same batches from a tensor in memory."""
    import torch

    from tellapart.data.augment import moved, network_input
    from tellapart.data.cache import Room
    from tellapart.data.loader import Loader
    from tellapart.data.pictures import first_pass
    from tellapart.data.sources import open_source
    from tellapart.memory import reuse_memory
    from tellapart.preprocess import Preprocess
    from tellapart.run import cores

    reuse_memory()  # as every training does
    to = Preprocess(size=size, channels=channels, mean=(0.5,) * channels, std=(0.25,) * channels)
    with tempfile.TemporaryDirectory() as cache:
        made = []

        def epoch(number: int) -> None:
            if not made:
                index, room = open_source(str(root)), Room(Path(cache), 10**11)
                made.append(first_pass(index, to, skip_bad=False, memory=0, room=room, threads=cores()))
            rows = np.arange(len(made[0].index))
            loader = Loader(pictures=made[0], rows=rows, batch_size=BATCH, device=torch.device("cpu"))
            for batch in loader.epoch(number):
                network_input(moved(batch.images, batch.chance, shift=0.1, flip=channels == 3), to)

        used = timed(epoch)
        whole = torch.from_numpy(made[0].pixels.gather(np.arange(len(made[0].index))))

        def memory(number: int) -> None:
            order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(number))
            for start in range(0, len(whole), BATCH):
                images = whole[order[start : start + BATCH]]
                chance = np.random.default_rng(start).random((4, len(images)), np.float32)
                network_input(moved(images, chance, shift=0.1, flip=channels == 3), to)

        return {**used, "memory": timed(memory)["cpu"], "decode": decoding(root)}


def decoding(root: Path) -> float:
    """The rate of our decoder over that of bare simplejpeg, on all cores; nan where there is no JPEG."""
    from concurrent.futures import ThreadPoolExecutor

    from simplejpeg import decode_jpeg

    from tellapart.data.decode import decode

    raws = [path.read_bytes() for path in sorted(root.rglob("*.jpg"))]
    seconds: dict = {decode: [], decode_jpeg: []}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in range(3 if raws else 0):
            for decoder, each in seconds.items():
                began = cpu()
                list(pool.map(decoder, raws))
                each.append(cpu() - began)
    return min(seconds[decode_jpeg]) / min(seconds[decode]) if raws else float("nan")


def theirs(root: Path, size: int, channels: int) -> dict:
    """ImageFolder and DataLoader, with as many workers as there are cores."""
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    steps = [transforms.Resize(size), transforms.CenterCrop(size)]
    steps += [transforms.RandomCrop(size, padding=round(size / 10), padding_mode="reflect")]
    steps += [transforms.RandomHorizontalFlip()] if channels == 3 else [transforms.Grayscale()]
    steps += [transforms.ToTensor(), transforms.Normalize((0.5,) * channels, (0.25,) * channels)]
    data = datasets.ImageFolder(str(root), transforms.Compose(steps))

    def epoch(_: int) -> None:
        for _ in DataLoader(data, BATCH, shuffle=True, num_workers=os.cpu_count() or 1):
            pass

    return timed(epoch)


def one(side: str, root: Path, size: int, channels: int) -> dict:
    """One side in a process of its own."""
    words = [sys.executable, __file__, "--side", side, "--pictures", str(root)]
    words += ["--size", str(size), "--channels", str(channels)]
    # as on our command line, on either side: waiting threads sleep (spinning would be counted as work), large pages
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive", "THP_MEM_ALLOC_ENABLE": "1"}
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout)


def compare(name: str, root: Path, size: int, channels: int, rounds: int) -> None:
    """Both sides in turn, and what comes out."""
    n = sum(1 for path in root.rglob("*") if path.suffix in (".jpg", ".jpeg", ".png"))
    first, waited, later, memory, rate, decoded = [], [], [], [], [], []
    for _ in range(rounds):
        a, b = one("ours", root, size, channels), one("theirs", root, size, channels)
        first.append(b["cpu"][0] / a["cpu"][0])
        waited.append(b["wall"][0] / a["wall"][0])
        later.append(statistics.median(b["cpu"][1:]) / statistics.median(a["cpu"][1:]))
        memory.append(statistics.median(a["cpu"][1:]) / statistics.median(a["memory"][1:]))
        decoded.append(a["decode"])
        rate.append((n / a["cpu"][0], n / b["cpu"][0], n / statistics.median(a["cpu"][1:])))
    fast, slow, again = (statistics.median(column) for column in zip(*rate, strict=True))
    print(f"{name}: {n:,} pictures to {size} px, {rounds} rounds")
    print(f"  pictures per CPU-second: first epoch ours {fast:,.0f}, theirs {slow:,.0f}; later ours {again:,.0f}")
    rows = {"first epoch": first, "first epoch, time waited": waited, "later epochs": later}
    rows["later epoch / from memory"] = memory
    for what, ratios in (rows | ({} if math.isnan(decoded[0]) else {"decoder / bare simplejpeg": decoded})).items():
        print(f"  {what:<27} {statistics.median(ratios):6.2f} x  [{min(ratios):.2f}, {max(ratios):.2f}]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=("ours", "theirs"))
    asked = parser.parse_args()
    if asked.side:
        print(json.dumps({"ours": ours, "theirs": theirs}[asked.side](asked.pictures, asked.size, asked.channels)))
    elif asked.pictures:
        compare(asked.pictures.name, asked.pictures, asked.size, asked.channels, asked.rounds)
    else:
        with tempfile.TemporaryDirectory() as folder:
            jpeg = make_pictures(Path(folder) / "jpeg", kind="jpeg", n=400)
            compare("JPEG 500 x 375", jpeg, 224, 3, asked.rounds)
            png = make_pictures(Path(folder) / "png", kind="png", n=6000)
            compare("PNG 28 x 28", png, 28, 1, asked.rounds)


if __name__ == "__main__":
    main()
