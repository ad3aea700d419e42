"""What the C library does with memory that is freed: kept for the next batch, or returned to the system (glibc)."""

import contextlib
import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -3, -4, -8
"""The numbers of four settings in glibc's malloc.h."""
LARGE = 1 << 20
"""Bytes."""


def reuse_memory() -> None:
    """Ask for what is freed to be kept, where that can be asked: for trainings.

    Otherwise every large array comes as new pages from the system, which fills them with zeros: measured here, that is
    three quarters of the time of `network_input` at 224 px, and a tenth of a step of `small` at 96 px.
    """
    _set({M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1})


def return_memory() -> None:
    """Ask for large blocks to go back to the system as soon as they are freed: for what runs for days.

    Otherwise the largest pictures of the past stay in every process that had them.
    """
    _set({M_MMAP_THRESHOLD: LARGE, M_TRIM_THRESHOLD: LARGE})


def one_heap() -> None:
    """Ask for one heap for all threads: to be called before there are any.

    Otherwise what one thread has freed is of no use to the others: measured here, a server of a ResNet-50 that draws a
    heat map needs 250 MB more.
    """
    _set({M_ARENA_MAX: 1})


def trim_memory() -> None:
    """Give back what is free now. Takes milliseconds."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _set(wanted: dict[int, int]) -> None:
    with contextlib.suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None)
        for setting, value in wanted.items():
            library.mallopt(setting, value)
