"""What the instructions of PTX calculate, on NumPy arrays: one value per thread."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray


def calculated(name: str, kinds: tuple[str, ...], given: list[Array]) -> Array | None:
    """The result of an instruction, or None for one that is not known here. kinds: what its name has after dots."""
    with np.errstate(all="ignore"):
        if name in _SIMPLE:
            return _SIMPLE[name](*given)
        if name in _BY_TYPE:
            return _BY_TYPE[name][given[0].dtype.kind == "f"](*given)
        if name == "setp":
            return _compared(kinds[0], *given)
        if name == "dp2a":
            return _added_products(kinds, *given)
        return _product(kinds[0], given) if name in ("mul", "mad", "fma") else None


def converted(values: Array, to: np.dtype, rounding: str) -> Array:
    """rounding: of a number to a whole one rni, rzi, rmi or rpi; anything else is to nearest."""
    if values.dtype.kind != "f":
        return values.astype(to)
    if rounding in ("rni", "rzi", "rmi", "rpi"):
        values = _ROUNDED[rounding[1]](values)
    if to.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            return values.astype(to)
    limits = np.iinfo(to)
    held = np.nan_to_num(values.astype(np.float64), nan=0.0)
    # The largest integer of 64 bits is not among the float64: one step below it.
    top = np.nextafter(2.0**63, 0) if to.itemsize == 8 else limits.max
    return np.clip(held, limits.min, top).astype(to)


def saturated(values: Array, kinds: tuple[str, ...]) -> Array:
    """In 0..1, what is no number 0, where the instruction says so."""
    if "sat" not in kinds:
        return values
    assert values.dtype.kind == "f", "whole numbers are not saturated here"
    return np.clip(np.nan_to_num(values, nan=0.0), 0, 1).astype(values.dtype)


def raw(kind: np.dtype) -> np.dtype:
    """The type of the bits of a value."""
    return kind if kind.kind == "b" else np.dtype(f"u{kind.itemsize}")


def _compared(how: str, first: Array, second: Array) -> Array:
    if first.dtype.kind != "f":
        return _COMPARED[how](first, second)
    neither = np.isnan(first) | np.isnan(second)
    unordered = how.endswith("u")
    ordered = _COMPARED[how.removesuffix("u")](first, second)
    return ordered | neither if unordered else ordered & ~neither


def _product(part: str, given: list[Array]) -> Array:
    """a·b, or a·b + c, of which `part` says what to keep of integers: wide, hi or lo."""
    kind = given[0].dtype
    if kind.kind == "f" and len(given) == 3:  # fused: rounded once, but for the last bit of float64
        wide = {4: np.float64, 8: np.longdouble}[kind.itemsize]
        first, second, third = (values.astype(wide) for values in given)
        return (first * second + third).astype(kind)
    if kind.kind == "f" or part == "lo":
        return sum(given[2:], given[0] * given[1])
    if kind == np.uint64 and part == "hi":
        return sum(given[2:], _high_of_64(*given[:2]))
    assert kind.itemsize <= 4, "the whole product of 64 bits is not known here"
    twice = np.dtype(f"{kind.kind}{2 * kind.itemsize}")
    whole = given[0].astype(twice) * given[1].astype(twice)
    kept = whole if part == "wide" else (whole >> np.array(8 * kind.itemsize, twice)).astype(kind)
    return sum(given[2:], kept)


def _added_products(kinds: tuple[str, ...], halves: Array, of_bytes: Array, start: Array) -> Array:
    """The two halves of a word times two bytes of another, the low or the high ones, added to a third."""
    part, *types = kinds
    half, byte = (np.dtype(f"{'i' if kind == 's32' else 'u'}{size}") for kind, size in zip(types, (2, 1), strict=True))
    total = start.astype(np.int64)
    for k in range(2):
        first = (halves >> 16 * k).astype(half)
        second = (of_bytes >> 8 * k + (16 if part == "hi" else 0)).astype(byte)
        total = total + first.astype(np.int64) * second.astype(np.int64)
    return total.astype(start.dtype)


def _high_of_64(first: Array, second: Array) -> Array:
    """The upper half of the product of two uint64, by their halves."""
    half, low = np.uint64(32), np.uint64(2**32 - 1)
    (a, b), (c, d) = ((values >> half, values & low) for values in (first, second))
    middle = b * c + (b * d >> half)
    return a * c + (middle >> half) + (a * d + (middle & low) >> half)


def _shifted_left(values: Array, by: Array) -> Array:
    """By the whole width or more: nothing is left."""
    most = 8 * values.itemsize - 1
    by = by.view(raw(by.dtype))
    return np.where(by <= most, values << np.minimum(by, most).astype(values.dtype), np.zeros(1, values.dtype))


def _shifted_right(values: Array, by: Array) -> Array:
    """By the whole width or more: the sign is left."""
    most = 8 * values.itemsize - 1
    by = by.view(raw(by.dtype))
    if values.dtype.kind == "i":
        return values >> np.minimum(by, most).astype(values.dtype)
    return np.where(by <= most, values >> np.minimum(by, most).astype(values.dtype), np.zeros(1, values.dtype))


def _inserted(bits: Array, into: Array, at: Array, count: Array) -> Array:
    """The low `count` bits of `bits` in the place of those from `at` on."""
    kept = ((np.ones(1, into.dtype) << count) - 1) << at
    return (into & ~kept) | (bits << at & kept)


def _permuted(first: Array, second: Array, places: Array) -> Array:
    """Four of the eight bytes of two words, `first` has the low ones; a place's fourth bit asks for the sign alone."""
    held = first.astype(np.uint64) | second.astype(np.uint64) << np.uint64(32)
    result = np.zeros(1, np.uint32)
    for k in range(4):
        place = places.astype(np.uint64) >> np.uint64(4 * k)
        byte = held >> (np.uint64(8) * (place & np.uint64(7))) & np.uint64(255)
        byte = np.where(place & np.uint64(8), np.where(byte & np.uint64(128), 255, 0), byte).astype(np.uint32)
        result = result | byte << np.uint32(8 * k)
    return result


def _quotient(first: Array, second: Array) -> Array:
    """Towards zero, as C."""
    return np.trunc(first.astype(np.longdouble) / second.astype(np.longdouble)).astype(first.dtype)


_COMPARED: dict[str, Callable[[Any, Any], Array]] = {
    name: getattr(operator, name) for name in ("lt", "le", "gt", "ge", "eq", "ne")
}
_ROUNDED = {"n": np.rint, "z": np.trunc, "m": np.floor, "p": np.ceil}
_SIMPLE: dict[str, Callable[..., Array]] = {
    "add": operator.add,
    "sub": operator.sub,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "not": operator.invert,
    "neg": operator.neg,
    "abs": np.abs,
    "sqrt": np.sqrt,
    "rcp": lambda a: 1 / a,
    "rsqrt": lambda a: 1 / np.sqrt(a),
    "ex2": np.exp2,
    "shl": _shifted_left,
    "shr": _shifted_right,
    "bfi": _inserted,
    "prmt": _permuted,
}
# Of integers, and of numbers: of one and of what is none, the one.
_BY_TYPE: dict[str, tuple[Callable[..., Array], Callable[..., Array]]] = {
    "min": (np.minimum, np.fmin),
    "max": (np.maximum, np.fmax),
    "div": (_quotient, operator.truediv),
    "rem": (lambda a, b: a - _quotient(a, b) * b, np.fmod),
}
