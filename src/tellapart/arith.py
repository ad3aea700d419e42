"""Arithmetic of layers: integers in, the size of the output out. No tensors."""


def convolved(size: int, kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """The side after a convolution: floor((size + 2 padding - dilation (kernel - 1) - 1) / stride + 1).

    >>> convolved(32, 5, padding=2), convolved(32, 3), convolved(7, 3, dilation=2)
    (32, 30, 3)
    """
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def pooled(
    size: int, kernel: int, *, stride: int | None = None, padding: int = 0, dilation: int = 1, ceil_mode: bool = False
) -> int:
    """The side after pooling; the stride is the kernel unless given. `ceil_mode` keeps a last, partial window, unless
    that window would start in the padding.

    >>> pooled(32, 2), pooled(5, 3), pooled(5, 3, ceil_mode=True)
    (16, 1, 2)
    """
    stride = stride or kernel
    reach = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return reach // stride + 1
    side = -(-reach // stride) + 1
    return side - 1 if (side - 1) * stride >= size + padding else side
