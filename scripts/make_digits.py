"""Make src/tellapart/data/sources/digits.bin from the digits that scikit-learn carries.

    python scripts/make_digits.py

The file is zlib over 65 columns of 1,797 uint8 values: 64 pixels from 0 to 16, row by row, then the label. Column by
column it is smaller than row by row. scikit-learn is found, not imported; the source is its digits.csv.gz (the UCI test
set "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, CC BY 4.0; scikit-learn is BSD-3-Clause).
"""

import gzip
import importlib.util
import zlib
from pathlib import Path

import numpy as np

TARGET = Path(__file__).resolve().parents[1] / "src/tellapart/data/sources/digits.bin"


def scikit_learn_rows() -> np.ndarray:
    """The rows (1797, 65) uint8 of scikit-learn's own file. Raises SystemExit when it is not installed."""
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        raise SystemExit("scikit-learn is not installed; `uv sync --group dev` brings it.")
    with gzip.open(Path(found.origin).parent / "datasets/data/digits.csv.gz", "rt") as file:
        return np.loadtxt(file, delimiter=",").astype(np.uint8)


def main() -> None:
    rows = scikit_learn_rows()
    assert rows.shape == (1797, 65)
    assert rows[:, :64].max() == 16
    TARGET.write_bytes(zlib.compress(np.ascontiguousarray(rows.T).tobytes(), 9))
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
