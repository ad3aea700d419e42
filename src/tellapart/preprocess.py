"""Preprocess: the contract from picture bytes to network input. Values only; the work is done in `data/`."""

from dataclasses import asdict, dataclass
from typing import Any

from tellapart import names
from tellapart.errors import StorageError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """How every picture becomes network input, the same in training, testing, predicting, serving and exporting.

    A picture is decoded, turned upright by its EXIF orientation, laid over white where it is transparent, converted to
    `channels` (1 grey, 3 RGB), made square, and scaled to (x / 255 - mean) / std.

    `short`: for fit="crop", the centre square is resized to this, then its centre `size` x `size` is taken; training
    moves that window into the margin. 0: no margin.
    """

    size: int
    channels: int
    fit: str = "crop"
    filter: str = "bilinear"
    short: int = 0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @property
    def side(self) -> int:
        """Side of the square that is kept of each picture: the network's, with its margin."""
        return max(self.short, self.size) if self.fit == "crop" else self.size

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and words, as they stand in the header of a model file."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, values: Any) -> "Preprocess":
        """Read what `to_json` gave. Raises StorageError when a value is missing, unknown or of the wrong kind."""
        try:
            made = cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})
            sound = made._is_sound()
        except (TypeError, KeyError, AttributeError) as error:
            raise StorageError(f"The preprocessing in this file cannot be read: {str(error)[:300]}.") from error
        if not sound:
            raise StorageError(f"The preprocessing in this file is out of range: {values!a:.300}.")
        return made

    def _is_sound(self) -> bool:
        numbers = [*self.mean, *self.std]
        return (
            all(type(n) is int for n in (self.size, self.channels, self.short))
            and 1 <= self.size <= 4096
            and self.channels in (1, 3)
            and self.fit in names.FITS
            and self.filter in names.FILTERS
            and 0 <= self.short <= 4 * self.size
            and len(self.mean) == len(self.std) == self.channels
            and all(isinstance(n, float | int) and abs(n) < 1e6 for n in numbers)
            and all(s > 1e-6 for s in self.std)
        )

    def words(self) -> str:
        """One line for a person: '28 x 28 grey, centre crop, bilinear'."""
        colour = "grey" if self.channels == 1 else "RGB"
        how = {"crop": "centre crop", "pad": "padded", "squash": "squashed"}[self.fit]
        return f"{self.size} x {self.size} {colour}, {how}, {self.filter}"


def fixed_statistics(name: str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and deviation of a named normalisation, or None for `data`, which has to be measured.

    >>> fixed_statistics("half", 1)
    ((0.5,), (0.5,))
    """
    if name == "none":
        return (0.0,) * channels, (1.0,) * channels
    if name == "half":
        return (0.5,) * channels, (0.5,) * channels
    if name == "imagenet":
        grey = ((sum(IMAGENET_MEAN) / 3,), (sum(IMAGENET_STD) / 3,))
        return (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else grey
    return None
