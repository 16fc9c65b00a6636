"""The record through which kernels find everything, described once: in kernels/world.cuh, which is read here."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from dtb.engine.backends.cuda_device import Device

KERNELS = Path(__file__).with_name("kernels.cu")
TYPES = {
    "u8": np.uint8, "u16": np.uint16, "i32": np.int32, "u32": np.uint32, "i64": np.int64, "u64": np.uint64,
    "f32": np.float32, "f64": np.float64,
}  # fmt: skip


@cache
def source() -> str:
    """The text of all kernels, whole: what is compiled depends on no path."""
    text = KERNELS.read_text(encoding="utf-8")
    return re.sub(r'#include "(.+)"', lambda found: (KERNELS.parent / found[1]).read_text(encoding="utf-8"), text)


def members(name: str, what: str = "struct") -> list[tuple[str, str]]:
    """(type, name) of the members of a struct, or ("", name) of an enum."""
    body = re.search(rf"^{what} (?:alignas\(\d+\) )?{name} {{\n(.*?)^}};", source(), re.MULTILINE | re.DOTALL)
    assert body, name
    pattern = r"^ +(\w+\*?) (\w+);" if what == "struct" else r"^ +()([A-Z]+),?"
    return re.findall(pattern, body[1], re.MULTILINE)


@cache
def record(name: str) -> np.dtype:
    """The NumPy type of a struct of numbers."""
    return np.dtype([(member, TYPES[kind]) for kind, member in members(name)], align=True)


@cache
def clock() -> dict[str, int]:
    """Place of each number of World.clock."""
    return {name: i for i, (_, name) in enumerate(members("Clock", "enum"))}


class World:
    """World of world.cuh on a device. Arrays given to it are brought there, and kept as long as it lives.

    Attributes
    ----------
    arrays : dict
        On the device, by name.
    record : array
        What kernels are handed; its address never changes.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._place = {name: (i, kind) for i, (kind, name) in enumerate(members("World"))}
        self._values = np.zeros(len(self._place), np.uint64)
        self.arrays: dict[str, Any] = {}
        self.record = device.zeros(len(self._place), np.uint64)

    def put(self, **values: np.ndarray | int) -> None:
        """Bring arrays of this machine to the device, as the type that the kernels expect, and set numbers."""
        for name, value in values.items():
            _, kind = self._place[name]
            if not kind.endswith("*"):
                self._set(name, int(value))
                continue
            wanted = TYPES.get(kind[:-1]) or record(kind[:-1])
            self.own(**{name: self._device.put(np.ascontiguousarray(value, wanted))})

    def own(self, **arrays: Any) -> None:
        """Refer to arrays that are on the device."""
        for name, array in arrays.items():
            assert self._place[name][1].endswith("*"), name
            self.arrays[name] = array
            self._set(name, self._device.address(array))

    def make(self, name: str, shape: int | tuple[int, ...]) -> Any:
        """Refer to a new array of zeros, and return it."""
        self.own(**{name: self._device.zeros(shape, TYPES[self._place[name][1][:-1]])})
        return self.arrays[name]

    def _set(self, name: str, value: int) -> None:
        self._values[self._place[name][0]] = np.array(value).astype(np.uint64)

    def commit(self) -> None:
        """Tell the kernels."""
        self._device.write(self.record, self._values)
