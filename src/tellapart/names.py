"""The table of legal names: what a recipe may call a thing. Tests compare it with the dicts that build the things."""

OPTIMIZERS = ("sgd", "adam", "adamw", "muon", "adagrad", "adadelta", "adamax", "nadam", "radam", "rmsprop")
SCHEDULES = ("one-cycle", "linear", "cosine", "step", "plateau", "constant")
PRECISIONS = ("fp32", "bf16", "fp16")
PARALLELS = ("ddp", "fsdp")
BODY = "body"
BOARDS = ("curves", "inside", "profile")
RETRIES = ("exact", "always", "never")
LOSSES = ("cross-entropy", "bce", "mse", "l1", "huber", "focal", "hinge")
SCORES = ("accuracy", "mean average precision")
"""The headline figure of a model: where each picture has one class, and where it may have several."""
SMOOTHED = ("cross-entropy", "bce", "focal")
FITS = ("crop", "pad", "squash")
FILTERS = ("bilinear", "bicubic", "nearest")
NORMALIZATIONS = ("data", "none", "half", "imagenet")
AUGMENTATIONS = ("none", "light", "medium", "strong")
POLICIES = ("none", "rand", "trivial")
PADDINGS = ("constant", "edge", "reflect", "symmetric")
ON_BAD = ("stop", "skip")
PARTS = ("train", "validation", "test")
LABELS = ("auto", "folders", "paired", "filename", "table", "shards")

OWN_MODELS = ("small", "quick", "linear")
"""Networks of our own that are one word; `mlp:256,128` is the family with hidden sizes."""
LINES = "layers"
"""The network that is written in lines of the recipe, model.layers."""
TIMM = "timm:"
"""What the name of a network of the library timm begins with."""
HUB = "hub:"
"""What the name of a network begins with that a repository's hubconf.py makes."""

NAMED_SOURCES = ("digits", "mnist", "fashion-mnist", "kmnist", "cifar10", "cifar100", "hymenoptera")

TORCHVISION_MODELS = tuple(
    """
    alexnet convnext_base convnext_large convnext_small convnext_tiny densenet121 densenet161 densenet169 densenet201
    efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_b5 efficientnet_b6
    efficientnet_b7 efficientnet_v2_l efficientnet_v2_m efficientnet_v2_s googlenet inception_v3 maxvit_t mnasnet0_5
    mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v2 mobilenet_v3_large mobilenet_v3_small regnet_x_16gf regnet_x_1_6gf
    regnet_x_32gf regnet_x_3_2gf regnet_x_400mf regnet_x_800mf regnet_x_8gf regnet_y_128gf regnet_y_16gf regnet_y_1_6gf
    regnet_y_32gf regnet_y_3_2gf regnet_y_400mf regnet_y_800mf regnet_y_8gf resnet101 resnet152 resnet18 resnet34
    resnet50 resnext101_32x8d resnext101_64x4d resnext50_32x4d shufflenet_v2_x0_5 shufflenet_v2_x1_0
    shufflenet_v2_x1_5 shufflenet_v2_x2_0 squeezenet1_0 squeezenet1_1 swin_b swin_s swin_t swin_v2_b swin_v2_s
    swin_v2_t vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn vit_b_16 vit_b_32 vit_h_14 vit_l_16 vit_l_32
    wide_resnet101_2 wide_resnet50_2
    """.split()  # noqa: SIM905 - eighty names read better as words
)

RESNETS = tuple(name for name in TORCHVISION_MODELS if name.startswith(("resnet", "resnext", "wide_resnet")))


def is_model(name: str) -> bool:
    """Whether `name` is a network that can be built.

    >>> is_model("mlp:256"), is_model("resnet18"), is_model("resnet81")
    (True, True, False)
    """
    named = name == LINES or name in OWN_MODELS or name in TORCHVISION_MODELS
    return named or hidden_sizes(name) is not None or is_elsewhere(name)


def is_elsewhere(name: str) -> bool:
    """Whether a network is not ours: a class in a file, an entry of a repository, or one of timm."""
    return name.startswith(TIMM) or is_code(name)


def is_code(name: str) -> bool:
    """Whether a network is made by code that a person has to allow: a class in a file, or an entry of a repository."""
    return name.startswith(HUB) or own_class(name) is not None


def hub_entry(name: str) -> tuple[str, str]:
    """The repository and the entry of `hub:FOLDER:ENTRY`.

    >>> hub_entry("hub:pytorch/vision:resnet18")
    ('pytorch/vision', 'resnet18')
    """
    folder, _, entry = name.removeprefix(HUB).rpartition(":")
    return folder, entry


def own_class(name: str) -> tuple[str, str] | None:
    """The file and the class of `my_net.py:MyNet`; None when `name` is not of that form.

    >>> own_class("nets/my_net.py:MyNet"), own_class("my_net.py"), own_class("mlp:256")
    (('nets/my_net.py', 'MyNet'), ('my_net.py', ''), None)
    """
    path, _, word = name.rpartition(":")
    if path.endswith(".py"):
        return path, word
    return (name, "") if name.endswith(".py") else None


def hidden_sizes(name: str) -> tuple[int, ...] | None:
    """The hidden sizes of `mlp:256,128`, or None when `name` is not of that form.

    >>> hidden_sizes("mlp:256,128")
    (256, 128)
    """
    family, colon, sizes = name.partition(":")
    if family != "mlp" or not colon:
        return None
    parts = sizes.split(",", 100)  # the last of more than a hundred is no number
    if not all(part.isascii() and part.isdigit() and len(part) < 6 and int(part) > 0 for part in parts):
        return None
    return tuple(int(part) for part in parts)
