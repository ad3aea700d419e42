"""What `data list` shows: the data sets that can be named, and well-known ones that cannot, with the reason."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One data set. train and test: pictures. size: width x height and colour of one picture. where: who publishes it.

    missing: why it cannot be opened by name; '' for those that can.
    """

    name: str
    task: str
    train: int
    test: int
    classes: int
    size: str
    where: str
    missing: str = ""

    @property
    def available(self) -> bool:
        """Whether `open_source(name)` reads it."""
        return not self.missing


_BOXES = "not classification: a picture holds many objects and has no one class"

CATALOGUE: tuple[Entry, ...] = (
    Entry(
        name="digits",
        task="classification",
        train=1797,
        test=0,
        classes=10,
        size="8 x 8 grey",
        where="comes with tellapart (UCI, Alpaydin and Kaynak, CC BY 4.0)",
    ),
    Entry(
        name="mnist",
        task="classification",
        train=60_000,
        test=10_000,
        classes=10,
        size="28 x 28 grey",
        where="LeCun, Cortes and Burges; http://yann.lecun.com/exdb/mnist/",
    ),
    Entry(
        name="fashion-mnist",
        task="classification",
        train=60_000,
        test=10_000,
        classes=10,
        size="28 x 28 grey",
        where="Zalando Research (MIT); https://github.com/zalandoresearch/fashion-mnist",
    ),
    Entry(
        name="kmnist",
        task="classification",
        train=60_000,
        test=10_000,
        classes=10,
        size="28 x 28 grey",
        where="CODH (CC BY-SA 4.0); http://codh.rois.ac.jp/kmnist/",
    ),
    Entry(
        name="cifar10",
        task="classification",
        train=50_000,
        test=10_000,
        classes=10,
        size="32 x 32 RGB",
        where="Krizhevsky; https://www.cs.toronto.edu/~kriz/cifar.html",
    ),
    Entry(
        name="cifar100",
        task="classification",
        train=50_000,
        test=10_000,
        classes=100,
        size="32 x 32 RGB",
        where="Krizhevsky; https://www.cs.toronto.edu/~kriz/cifar.html",
    ),
    Entry(
        name="coco",
        task="detection, segmentation",
        train=118_287,
        test=40_670,
        classes=80,
        size="various RGB",
        where="https://cocodataset.org",
        missing=_BOXES,
    ),
)
TORCHVISION_SETS = tuple(
    """
    CIFAR10 CIFAR100 Caltech101 Country211 DTD EuroSAT FER2013 FGVCAircraft FashionMNIST Flowers102 Food101 GTSRB
    Imagenette KMNIST MNIST OxfordIIITPet PCAM QMNIST RenderedSST2 SEMEION STL10 SUN397 SVHN StanfordCars USPS
    """.split()  # noqa: SIM905 - names read better as words
)
"""The sets of torchvision that give (picture, class number) and that `torchvision:NAME` opens where their files lie."""
