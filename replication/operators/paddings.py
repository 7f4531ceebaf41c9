"""Where a convolution puts its zeros: on all sides, around, or at one corner."""

from __future__ import annotations

SYMMETRIC_PADDINGS = ("zeros", "circular")
OPPOSITE = {  # a corner to the one across
    "top-left": "bottom-right",
    "bottom-right": "top-left",
    "top-right": "bottom-left",
    "bottom-left": "top-right",
}
CORNERS = tuple(OPPOSITE)


def aligned_tap(padding: str, kernel_size: int) -> tuple[int, int]:
    """Return the row and column of the tap that takes a pixel to itself: the padding on the top and on the left."""
    if padding in SYMMETRIC_PADDINGS:
        return kernel_size // 2, kernel_size // 2
    return (kernel_size - 1) * ("top" in padding), (kernel_size - 1) * ("left" in padding)


def check_padding(padding: str, kernel_size: int, image_size: tuple[int, int] | None) -> None:
    """Refuse unknown paddings, even kernels with symmetric ones, and circular ones that wrap an image more than once.

    Raises:
        ValueError: if the padding is one of these.
    """
    if padding not in SYMMETRIC_PADDINGS + CORNERS:
        known = ", ".join(f'"{name}"' for name in SYMMETRIC_PADDINGS + CORNERS)
        raise ValueError(f"padding must be one of {known}, not {padding!r}")
    if padding in SYMMETRIC_PADDINGS and kernel_size % 2 == 0:
        raise ValueError(f"a kernel padded on all sides must have an odd size, not {kernel_size}")
    if padding == "circular" and image_size is not None and kernel_size // 2 > min(image_size):
        raise ValueError(
            f"circular padding of {kernel_size // 2} points needs images of at least that size, not {image_size}"
        )
