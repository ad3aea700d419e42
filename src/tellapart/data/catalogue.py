"""What `data list` shows: the data sets that can be named, and well-known ones that cannot, with the reason."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One data set. train and test: pictures. size: width x height and colour of one picture. where: who publishes it.

    missing: why it cannot be opened by name; '' for those that can.
    """

    name: str
    train: int
    test: int
    classes: int
    size: str
    where: str
    missing: str = ""
    task: str = "classification"

    @property
    def available(self) -> bool:
        """Whether `open_source(name)` reads it."""
        return not self.missing


_BOXES = "not classification: a picture holds many objects and has no one class"

_KRIZ = "Krizhevsky; https://www.cs.toronto.edu/~kriz/cifar.html"
_FASHION = "Zalando Research (MIT); https://github.com/zalandoresearch/fashion-mnist"
_ANTS = "PyTorch's tutorial, with 153 to validate; https://download.pytorch.org/tutorial/"
_DETECTION = "detection, segmentation"

# fmt: off
CATALOGUE: tuple[Entry, ...] = (
    # name, train, test, classes, size, where
    Entry("digits", 1797, 0, 10, "8 x 8 grey", "comes with tellapart (UCI, Alpaydin and Kaynak, CC BY 4.0)"),
    Entry("mnist", 60_000, 10_000, 10, "28 x 28 grey", "LeCun, Cortes and Burges; http://yann.lecun.com/exdb/mnist/"),
    Entry("fashion-mnist", 60_000, 10_000, 10, "28 x 28 grey", _FASHION),
    Entry("kmnist", 60_000, 10_000, 10, "28 x 28 grey", "CODH (CC BY-SA 4.0); http://codh.rois.ac.jp/kmnist/"),
    Entry("cifar10", 50_000, 10_000, 10, "32 x 32 RGB", _KRIZ),
    Entry("cifar100", 50_000, 10_000, 100, "32 x 32 RGB", _KRIZ),
    Entry("hymenoptera", 244, 0, 2, "various RGB", _ANTS),
    Entry("coco", 118_287, 40_670, 80, "various RGB", "https://cocodataset.org", missing=_BOXES, task=_DETECTION),
)
# fmt: on

TORCHVISION_SETS = tuple(
    """
    CIFAR10 CIFAR100 Caltech101 Country211 DTD EuroSAT FER2013 FGVCAircraft FashionMNIST Flowers102 Food101 GTSRB
    Imagenette KMNIST MNIST OxfordIIITPet PCAM QMNIST RenderedSST2 SEMEION STL10 SUN397 SVHN StanfordCars USPS
    """.split()  # noqa: SIM905 - names read better as words
)
"""The sets of torchvision that give (picture, class number) and that `torchvision:NAME` opens where their files lie."""
