"""Weights in safetensors: what the headers of their files say, before the weights are read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from closer_look.errors import InputError, first_line

LONGEST_HEADERS = 2**24  # bytes in all; 100,000 tensors take 12 MB
MANY = 50_000  # tensors that a small model may have; in a large one, they hold numbers


class Weights(NamedTuple):
    """What safetensors files hold together."""

    n_values: int
    n_bytes: int


def read_headers(folders: Sequence[str]) -> Weights:
    """Count the weights that lie in folders; files that are linked twice count once.

    Raises:
        InputError: a header is not what it has to be; the message names the file.
    """
    files: dict[tuple[int, int], tuple[Path, int]] = {}
    sizes: list[int] = []
    n_header = 0
    for folder in folders:
        for path in sorted(Path(folder).glob("*.safetensors")):
            stat = path.stat()
            files.setdefault((stat.st_dev, stat.st_ino), (path, stat.st_size))
    for path, _ in files.values():
        try:
            n_header += _header_length(path)
            if n_header > LONGEST_HEADERS:
                raise SafetensorError(f"headers of {n_header:,} bytes")
            sizes += _sizes(path)
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"{path.parent}: {path.name} cannot be read as safetensors ({first_line(error)}); "
                f"copy or save it again"
            ) from None
    if len(sizes) > MANY and sum(sizes) < 1000 * len(sizes):
        raise InputError(f"{folders[0]}: has {len(sizes):,} tensors that hold hardly a number")
    return Weights(sum(sizes), sum(size for _, size in files.values()))


def _header_length(path: Path) -> int:
    with path.open("rb") as file:
        return int.from_bytes(file.read(8), "little")


def _sizes(path: Path) -> list[int]:
    with safe_open(path, "numpy") as weights:
        return [math.prod(weights.get_slice(name).get_shape()) for name in weights.offset_keys()]
