"""Runs PTX, what NVRTC makes of a kernel, on the CPU: the threads of many blocks at once, as NumPy arrays.

Beside results it counts what decides about speed on a device: the instructions that warps issue, the passes over the
banks of shared memory, and the sectors of global memory that warps touch. Accesses that are misaligned, or outside of
what was allocated, raise. It knows the instructions that our kernels are made of, and raises for every other one.

Threads that have parted run in the order of their places in the program. That hides missing barriers: cuda_shim.hpp
is for those.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from simulators.ptx_arithmetic import calculated, converted, raw, saturated

from apr_dali.kernels.cuda.launch import Launch

Array = np.ndarray

WARP, BANKS, WORD, SECTOR = 32, 32, 4, 32
_LANES = 1 << 14
_RUNS, _AT_BLOCK_BARRIER, _AT_WARP_BARRIER, _ENDED = range(4)
_TYPES = {
    **{f"{name}{8 * size}": np.dtype(f"{code}{size}") for name, code in ("uu", "bu", "si") for size in (1, 2, 4, 8)},
    **{f"f{8 * size}": np.dtype(f"f{size}") for size in (2, 4, 8)},
    "pred": np.dtype(bool),
}
_ENTRY = re.compile(r"\.entry (\w+)\((.*?)\)(?:[^{]*)\{(.*?)\n\}", re.DOTALL)
_REGISTER = re.compile(r"\.reg \.(\w+)\s+(%\w+?)(?:<(\d+)>)?;")
_LINE = re.compile(r"(?:@(!?)(%\w+)\s+)?([a-z][\w.]*)\s*(.*)")
_OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+")


# ---- Programs ----


@dataclass(frozen=True)
class Instruction:
    """guard: the predicate that it depends on, and what that has to be. kinds: what its name has after dots."""

    text: str
    guard: tuple[str, bool] | None
    name: str
    kinds: tuple[str, ...]
    operands: tuple[str, ...]


@dataclass(frozen=True)
class Kernel:
    """registers: the type of each. labels: the instructions that they stand before."""

    parameters: tuple[str, ...]
    registers: dict[str, np.dtype]
    instructions: tuple[Instruction, ...]
    labels: dict[str, int]


def parse(text: str) -> dict[str, Kernel]:
    """The kernels of a PTX file, by name."""
    plain = re.sub(r"//.*", "", text)
    return {name: _kernel(parameters, body) for name, parameters, body in _ENTRY.findall(plain)}


def _kernel(parameters: str, body: str) -> Kernel:
    registers = {}
    for kind, name, count in _REGISTER.findall(body):
        names = [f"{name}{k}" for k in range(int(count))] if count else [name]
        registers.update(dict.fromkeys(names, raw(_TYPES[kind])))
    instructions, labels = [], {}
    for statement in re.split(r"[;{}]\s*\n|(?<=:)\s*\n", _REGISTER.sub("", body) + "\n"):
        line = statement.strip()
        if line.endswith(":"):
            labels[line[:-1]] = len(instructions)
        elif line and not line.startswith("."):  # a directive
            instructions.append(_instruction(line))
    return Kernel(tuple(re.findall(r"\w+_param_\d+", parameters)), registers, tuple(instructions), labels)


def _instruction(line: str) -> Instruction:
    found = _LINE.fullmatch(line)
    assert found, line
    negated, guard, opcode, operands = found.groups()
    name, *kinds = opcode.split(".")
    depends = (guard, not negated) if guard else None
    return Instruction(line, depends, name, tuple(kinds), tuple(_OPERAND.findall(operands)))


# ---- Memory ----


class Memory:
    """The device's memory: pieces that are `put` in, each with space around it that belongs to none."""

    base = 1 << 20

    def __init__(self, size: int) -> None:
        size = -(-size // 256) * 256
        self.bytes = np.zeros(size, np.uint8)
        self.mine = np.zeros(size, bool)
        self._next = 256

    def put(self, values: Array) -> int:
        """The address of a copy of a contiguous array."""
        start, self._next = self._next, self._next + -(-values.nbytes // 256) * 256 + 256
        self.bytes[start : start + values.nbytes] = values.reshape(-1).view(np.uint8)
        self.mine[start : start + values.nbytes] = True
        return self.base + start

    def get(self, address: int, into: Array) -> None:
        start = address - self.base
        into.reshape(-1).view(np.uint8)[...] = self.bytes[start : start + into.nbytes]


@dataclass
class Trace:
    """What the warps of a launch did, by the place of the instruction.

    issued: warps that ran it. passes: over the banks of shared memory; least: what they had been without conflicts.
    sectors: of 32 bytes of global memory that warps touched; filled: what the bytes they asked for would fill.
    """

    issued: Array
    passes: Array
    least: Array
    sectors: Array
    filled: Array

    @classmethod
    def of(cls, kernel: Kernel) -> Trace:
        return cls(*(np.zeros(len(kernel.instructions)) for _ in range(5)))

    def add_shared(self, at: int, address: Array, mask: Array, size: int) -> None:
        """At a time a warp's threads reach 128 bytes: half of them eight bytes each, a quarter sixteen."""
        group = min(WARP, BANKS * WORD // size)
        words = address.reshape(-1, group, 1) // WORD + np.arange(max(1, size // WORD))
        words = words.reshape(len(address) // group, -1)
        active = np.repeat(mask.reshape(-1, group), words.shape[1] // group, axis=1)
        self.passes[at] += _most_in_a_bank(words, active).sum()
        self.least[at] += active.any(axis=1).sum()

    def add_global(self, at: int, address: Array, mask: Array, size: int) -> None:
        sectors = np.sort(np.where(mask, address // SECTOR, -1).reshape(-1, WARP), axis=1)
        fresh = np.diff(sectors, axis=1, prepend=-1) != 0
        self.sectors[at] += fresh.sum()
        places = np.sort(np.where(mask, address, -size).reshape(-1, WARP), axis=1)
        distinct = (np.diff(places, axis=1, prepend=-size) != 0).sum(axis=1)
        self.filled[at] += np.ceil(distinct * size / SECTOR).sum()


def _most_in_a_bank(words: Array, active: Array) -> Array:
    """For each row of words, how many different ones lie in the bank that has most."""
    rows = np.sort(np.where(active, words, -1), axis=1)
    fresh = np.diff(rows, axis=1, prepend=-1) != 0
    row, _ = np.nonzero(fresh)
    counts = np.bincount(row * BANKS + rows[fresh] % BANKS, minlength=len(rows) * BANKS)
    return counts.reshape(len(rows), BANKS).max(axis=1)


# ---- Running ----


def launch(kernel: Kernel, shape: Launch, args: Sequence[np.generic], memory: Memory) -> Trace:
    """Run a kernel; args: NumPy scalars of its parameters' types, addresses of `memory` among them."""
    trace = Trace.of(kernel)
    parameters = dict(zip(kernel.parameters, args, strict=True))
    at_once = max(1, _LANES // shape.block)
    for first in range(0, shape.grid, at_once):
        blocks = np.arange(first, min(shape.grid, first + at_once))
        _Blocks(kernel, shape, blocks, memory, trace).run(parameters)
    return trace


class _Registers(dict[str, Array]):
    """One value per thread, marks at first. Made when they are needed: most kernels leave many in a branch."""

    def __init__(self, kinds: dict[str, np.dtype], threads: int) -> None:
        super().__init__()
        self._kinds, self._threads = kinds, threads

    def __missing__(self, name: str) -> Array:
        made = self[name] = np.full(self._threads, 0xAB, self._kinds[name])
        return made


class _Blocks:
    """Some blocks of a launch. Every register is an array, one value per thread."""

    def __init__(self, kernel: Kernel, shape: Launch, blocks: Array, memory: Memory, trace: Trace) -> None:
        assert shape.block % WARP == 0, "blocks are of whole warps here"
        self.kernel, self.memory, self.trace, self.block = kernel, memory, trace, shape.block
        threads = len(blocks) * shape.block
        self.registers = _Registers(kernel.registers, threads)
        self.special = {
            "%tid.x": np.tile(np.arange(shape.block, dtype=np.uint32), len(blocks)),
            "%ctaid.x": np.repeat(blocks.astype(np.uint32), shape.block),
            "%ntid.x": np.full(threads, shape.block, np.uint32),
            "dynamic_shared": np.zeros(threads, np.uint64),
        }
        # What is read before it is written is NaN.
        room = -(-shape.shared // 16) * 16
        self.shared = np.full(len(blocks) * room, 0xFF, np.uint8)
        self.shared_size = shape.shared
        self.shared_start = np.repeat(np.arange(len(blocks)) * room, shape.block)
        self.place = np.zeros(threads, int)
        self.state = np.full(threads, _RUNS)

    def run(self, parameters: dict[str, np.generic]) -> None:
        self.parameters = parameters
        while True:
            running = self.state == _RUNS
            if not running.any():
                if (self.state == _ENDED).all():
                    return
                self._release()
                continue
            at = self.place[running].min()
            mask = running & (self.place == at)
            others = self.place[running & ~mask]
            self._straight_on(at, int(others.min()) if len(others) else len(self.kernel.instructions), mask)

    def _release(self) -> None:
        """Let threads go on whose warp, or whose block, has arrived at a barrier."""
        before = (self.state == _RUNS).sum()
        for waits, size in ((_AT_WARP_BARRIER, WARP), (_AT_BLOCK_BARRIER, self.block)):
            groups = self.state.reshape(-1, size)
            arrived = ((groups == waits) | (groups == _ENDED)).all(axis=1)
            groups[(groups == waits) & arrived[:, None]] = _RUNS
        assert (self.state == _RUNS).sum() > before, "threads wait at different barriers"

    def _straight_on(self, at: int, stop: int, mask: Array) -> None:
        """Run the threads of `mask` until they branch, wait, end, or reach `stop`, where others are."""
        warps = mask.reshape(-1, WARP).any(axis=1).sum()
        while at < stop:
            instruction = self.kernel.instructions[at]
            self.trace.issued[at] += warps
            chosen = mask if instruction.guard is None else mask & self._holds(*instruction.guard)
            at += 1
            if instruction.name == "bra":
                self.place[mask] = at
                self.place[chosen] = self.kernel.labels[instruction.operands[0]]
                return
            if instruction.name in ("bar", "ret"):
                self.place[mask] = at
                self.state[chosen] = _waiting(instruction)
                return
            self._execute(at - 1, instruction, chosen)
        self.place[mask] = at

    def _holds(self, predicate: str, wanted: bool) -> Array:
        return self.registers[predicate] == wanted

    def _execute(self, at: int, instruction: Instruction, mask: Array) -> None:
        name, kinds, operands = instruction.name, instruction.kinds, instruction.operands
        if name in ("ld", "st", "atom"):
            self._access(at, instruction, mask)
        elif name == "mov" and "{" in operands[0] + operands[1]:
            self._repack(operands, _TYPES[kinds[-1]], mask)
        elif name == "cvt":
            to, given = _TYPES[kinds[-2]], self.value(operands[1], _TYPES[kinds[-1]])
            self.set(operands[0], saturated(converted(given, to, kinds[0]), kinds), mask)
        elif name in ("mov", "cvta"):
            self.set(operands[0], self.value(operands[1], _TYPES[kinds[-1]]), mask)
        elif name == "selp":
            first, second = (self.value(operand, _TYPES[kinds[-1]]) for operand in operands[1:3])
            self.set(operands[0], np.where(self.registers[operands[3]], first, second), mask)
        else:
            given = [self.value(operand, _TYPES[kinds[-1]]) for operand in operands[1:]]
            result = calculated(name, kinds, given)
            if result is None:
                raise NotImplementedError(instruction.text)
            self.set(operands[0], saturated(result, kinds), mask)

    # ---- Operands ----

    def value(self, operand: str, kind: np.dtype) -> Array:
        """What a register, a number or a special register is as `kind`: the low bits of what is wider."""
        name, _, _ = operand.partition("$")  # the compiler numbers the types that shared memory is seen as
        if name in self.special:
            return self.special[name].astype(kind)
        if operand not in self.kernel.registers:
            return _number(operand, kind)
        held = self.registers[operand]
        return held if kind.kind == "b" else held.astype(raw(kind), copy=False).view(kind)

    def set(self, operand: str, values: Array, mask: Array) -> None:
        held = self.registers[operand]
        if held.dtype.kind != "b":
            if values.dtype.kind == "i":  # with its sign
                values = values.astype(f"i{held.itemsize}", copy=False)
            values = np.ascontiguousarray(values).view(raw(values.dtype)).astype(held.dtype, copy=False)
        np.copyto(held, values, where=mask)

    def _repack(self, operands: tuple[str, ...], kind: np.dtype, mask: Array) -> None:
        """A wide register from two or more narrow ones, or the other way round."""
        joined = "{" in operands[1]
        whole, parts = (operands[0], _inside(operands[1])) if joined else (operands[1], _inside(operands[0]))
        narrow = np.dtype(f"u{kind.itemsize // len(parts)}")
        if joined:
            values = np.stack([self.value(part, narrow) for part in parts], axis=1)
            self.set(whole, values.view(raw(kind))[:, 0], mask)
        else:
            values = np.ascontiguousarray(self.value(whole, raw(kind))).view(narrow).reshape(-1, len(parts))
            for k, part in enumerate(parts):
                self.set(part, values[:, k], mask)

    # ---- Loads and stores ----

    def _access(self, at: int, instruction: Instruction, mask: Array) -> None:
        space, kind = instruction.kinds[0], _TYPES[instruction.kinds[-1]]
        first, second, *others = instruction.operands
        if space == "param":
            given = self.parameters[_inside(second)[0]]
            assert given.dtype.itemsize == kind.itemsize, f"{instruction.text}: the argument is a {given.dtype}"
            self.set(first, np.full(len(mask), given).view(kind), mask)
            return
        target, source = (first, second) if instruction.name == "st" else (second, first)
        registers = _inside(source)
        address, size = self._address(target), kind.itemsize * len(registers)
        count = self.trace.add_shared if space == "shared" else self.trace.add_global
        count(at, address, mask, size)
        data = (self.shared if space == "shared" else self.memory.bytes).view(kind)
        places = self._places(instruction, address, mask, size)[mask] // kind.itemsize
        if instruction.name == "atom":  # what was there before is not given: no kernel of ours asks
            _ATOMIC[instruction.kinds[1]].at(data, places, _of(self.value(others[0], kind), mask))
            return
        for k, register in enumerate(registers):
            if instruction.name == "st":
                data[places + k] = _of(self.value(register, kind), mask)
            else:
                loaded = np.zeros(len(mask), kind)
                loaded[mask] = data[places + k]
                self.set(register, loaded, mask)

    def _address(self, operand: str) -> Array:
        name, _, offset = _inside(operand)[0].partition("+")
        return self.value(name, np.dtype("i8")) + int(offset or 0)

    def _places(self, instruction: Instruction, address: Array, mask: Array, size: int) -> Array:
        """Where in the bytes of its memory each thread's access is."""
        assert (address[mask] % size == 0).all(), f"misaligned: {instruction.text}"
        if instruction.kinds[0] == "shared":
            inside = (address >= 0) & (address + size <= self.shared_size)
            assert inside[mask].all(), f"outside of shared memory: {instruction.text}"
            return address + self.shared_start
        places = address - Memory.base
        inside = (places[mask] >= 0) & (places[mask] + size <= len(self.memory.mine))
        assert inside.all(), f"outside of memory: {instruction.text}"
        assert self.memory.mine[places[mask]].all(), f"outside of what was allocated: {instruction.text}"
        assert self.memory.mine[places[mask] + size - 1].all(), f"beyond what was allocated: {instruction.text}"
        return places


_ATOMIC = {"add": np.add, "min": np.minimum, "max": np.maximum}


def _inside(operand: str) -> list[str]:
    return re.findall(r"[^\s,{}\[\]]+", operand)


def _of(values: Array, mask: Array) -> Array:
    return np.broadcast_to(values, mask.shape)[mask]


def _waiting(instruction: Instruction) -> int:
    if instruction.name == "ret":
        return _ENDED
    return _AT_WARP_BARRIER if instruction.kinds[0] == "warp" else _AT_BLOCK_BARRIER


def _number(text: str, kind: np.dtype) -> Array:
    if text[:2].lower() in ("0f", "0d"):
        return np.array([int(text[2:], 16)], f"u{(len(text) - 2) // 2}").view(kind)
    if kind.kind == "b":
        return np.array([int(text) != 0])
    return np.array([int(text, 0) % (1 << 8 * kind.itemsize)], np.uint64).astype(raw(kind)).view(kind)
