"""The update of sixteen neurons, written as vector code.

It is reference.update operation by operation, in float32 and in the same order: no fused multiply-add, no fast-math.
As a loop over lanes in plain numba it is vector code only where LLVM can prove that no two arrays overlap, and that
proof fails when the loop is inlined into a larger function: three times slower, without a word. Here the operations
themselves are on vectors of sixteen, so there is nothing to prove: 1.6 ns per neuron instead of 6.
"""

from __future__ import annotations

from llvmlite import ir
from numba import int64, types
from numba.extending import intrinsic

from dtb.engine.constants import RUNAWAY, SMALLEST
from dtb.network import rng

LANES = 16
STEP, LEAK, DRIVE, THRESHOLD, RESET, DRIFT, SPREAD, BG_DECAY = range(8)  # rows of parameters
G, E_REV, DECAY = 8, 12, 16  # four rows each
UNIT, HOLD, STIMULUS, ROWS = 20, 22, 23, 24  # two rows of unit; refractory steps as float32; stimulus last

_I16, _I32, _I64, _F32 = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()


class _Lanes:
    """Sixteen values and the operations on them; `x + y` emits one instruction."""

    def __init__(self, builder, value) -> None:
        self.builder, self.value = builder, value

    def __add__(self, other: _Lanes) -> _Lanes:
        return _Lanes(self.builder, self.builder.fadd(self.value, other.value))

    def __sub__(self, other: _Lanes) -> _Lanes:
        return _Lanes(self.builder, self.builder.fsub(self.value, other.value))

    def __mul__(self, other: _Lanes) -> _Lanes:
        return _Lanes(self.builder, self.builder.fmul(self.value, other.value))

    def __truediv__(self, other: _Lanes) -> _Lanes:
        return _Lanes(self.builder, self.builder.fdiv(self.value, other.value))

    def where(self, condition, otherwise: _Lanes) -> _Lanes:
        return _Lanes(self.builder, self.builder.select(condition, self.value, otherwise.value))

    def at_least(self, other: _Lanes):
        return self.builder.fcmp_ordered(">=", self.value, other.value)


def _vector(kind):
    return ir.VectorType(kind, LANES)


def _all(kind, number):
    return ir.Constant(_vector(kind), [number] * LANES)


class _Block:
    """Loads and stores of rows of sixteen within arrays, and the noise."""

    def __init__(self, context, builder, signature, args) -> None:
        self.context, self.builder, self.signature, self.args = context, builder, signature, args

    def row(self, argument: int, element: ir.Type, offsets: list, alignment: int):
        """Pointer to sixteen elements of a C-ordered array, at these indices (the last one counts elements)."""
        builder = self.builder
        array = self.context.make_array(self.signature.args[argument])(self.context, builder, self.args[argument])
        index = offsets[-1]
        if len(offsets) == 2:
            width = builder.extract_value(array.shape, 1)
            index = builder.add(builder.mul(offsets[0], width), index)
        return builder.bitcast(builder.gep(array.data, [index]), _vector(element).as_pointer()), alignment

    def load(self, argument: int, element: ir.Type, *offsets):
        pointer, alignment = self.row(argument, element, list(offsets), 2 if element is _I16 else 4)
        return self.builder.load(pointer, align=alignment)

    def store(self, value, argument: int, element: ir.Type, *offsets) -> None:
        pointer, alignment = self.row(argument, element, list(offsets), 2 if element is _I16 else 4)
        self.builder.store(value, pointer, align=alignment)

    def splat(self, value, kind):
        builder, vector = self.builder, _vector(kind)
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(_I32, 0))
        return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), _all(_I32, 0))

    def noise(self, z, key_0, key_1) -> _Lanes:
        """rng.noise4 of rng.hash64, z being GOLDEN · gid of lane 0."""
        b = self.builder
        lanes = ir.Constant(_vector(_I64), [lane * int(rng.GOLDEN) % 2**64 for lane in range(LANES)])
        x = b.xor(b.add(self.splat(z, _I64), lanes), self.splat(key_0, _I64))
        x = b.mul(b.xor(x, b.lshr(x, _all(_I64, 30))), _all(_I64, int(rng.MIX_1)))
        x = b.xor(x, self.splat(key_1, _I64))
        x = b.mul(b.xor(x, b.lshr(x, _all(_I64, 27))), _all(_I64, int(rng.MIX_2)))
        x = b.xor(x, b.lshr(x, _all(_I64, 31)))
        total = b.lshr(x, _all(_I64, 48))
        for shift in (0, 16, 32):
            total = b.add(total, b.and_(b.lshr(x, _all(_I64, shift)), _all(_I64, 0xFFFF)))
        centred = b.sub(b.trunc(total, _vector(_I32)), _all(_I32, rng.NOISE_CENTRE))
        return _Lanes(b, b.sitofp(centred, _vector(_F32)))


@intrinsic
def spread16(typingctx, value, parameters, row):
    """Give all sixteen lanes of a row of parameters one value, in one store, which the update can then load whole."""

    def codegen(context, builder, signature, args):
        code = _Block(context, builder, signature, args)
        code.store(code.splat(args[0], _F32), 1, _F32, builder.mul(args[2], ir.Constant(_I64, LANES)))
        return context.get_dummy_value()

    return types.void(types.float32, parameters, types.int64), codegen


@intrinsic
def update16(
    typingctx, fields, hold, block, excitation, row_e, inhibition, row_i, at, z, key_0, key_1, parameters, implicit
):
    """Advance block `block` of fields (b, 96) and hold (b, 16) by one step: reference.update, sixteen neurons at once.

    excitation[row_e, at : at + 16], inhibition[row_i, at : at + 16]: int32 sums.  parameters (24 · 16,) float32.
    Returns a mask of the neurons that fired, or -1 where a membrane left all bounds.
    """

    def codegen(context, builder, signature, args):
        code = _Block(context, builder, signature, args)
        the_block, the_row_e, the_row_i, column = args[2], args[4], args[6], args[7]

        def field(number: int) -> _Lanes:
            return _Lanes(builder, code.load(0, _F32, the_block, ir.Constant(_I64, number * LANES)))

        def parameter(number: int) -> _Lanes:
            return _Lanes(builder, code.load(11, _F32, ir.Constant(_I64, number * LANES)))

        def constant(number) -> _Lanes:
            return _Lanes(builder, _all(_F32, float(number)))

        sums = [code.load(3, _I32, the_row_e, column), code.load(5, _I32, the_row_i, column)]
        arrived = [
            parameter(UNIT + kind) * _Lanes(builder, builder.sitofp(total, _vector(_F32)))
            for kind, total in enumerate(sums)
        ]
        zero, one = constant(0.0), constant(1.0)
        s = [field(1 + u) * parameter(DECAY + u) + arrived[u // 2] for u in range(4)]
        s = [x.where(x.at_least(constant(SMALLEST)), zero) for x in s]
        background = field(5) * parameter(BG_DECAY) + parameter(DRIFT)
        background = background + parameter(SPREAD) * code.noise(args[8], args[9], args[10])

        total, drive = parameter(LEAK), parameter(DRIVE)
        for u in range(4):
            conductance = parameter(G + u) * s[u]
            total = total + conductance
            drive = drive + conductance * parameter(E_REV + u)
        drive = drive + (background + parameter(STIMULUS))
        v, step = field(0), parameter(STEP)
        with builder.if_else(args[12]) as (semi_implicit, euler):
            with semi_implicit:
                divided = (v + step * drive) / (one + step * total)
                from_implicit = builder.block
            with euler:
                added = v + step * (drive - total * v)
                from_euler = builder.block
        moved_value = builder.phi(_vector(_F32))
        moved_value.add_incoming(divided.value, from_implicit)
        moved_value.add_incoming(added.value, from_euler)
        moved = _Lanes(builder, moved_value)

        left = builder.zext(code.load(1, _I16, the_block, ir.Constant(_I64, 0)), _vector(_I32))
        free = builder.icmp_unsigned("==", left, _all(_I32, 0))
        over = moved.at_least(parameter(THRESHOLD))
        fires = builder.and_(free, over)
        stays = builder.and_(free, builder.not_(over))
        size = _Lanes(builder, builder.call(_fabs(builder), [moved.value]))
        wild = builder.not_(builder.fcmp_ordered("<", size.value, constant(RUNAWAY).value))

        code.store(moved.where(stays, parameter(RESET)).value, 0, _F32, the_block, ir.Constant(_I64, 0))
        for u in range(4):
            code.store(s[u].value, 0, _F32, the_block, ir.Constant(_I64, (1 + u) * LANES))
        code.store(background.value, 0, _F32, the_block, ir.Constant(_I64, 5 * LANES))
        less = builder.sub(left, builder.zext(builder.not_(free), _vector(_I32)))
        again = builder.fptosi(parameter(HOLD).value, _vector(_I32))
        steps = builder.trunc(builder.select(fires, again, less), _vector(_I16))
        code.store(steps, 1, _I16, the_block, ir.Constant(_I64, 0))

        mask = builder.zext(builder.bitcast(fires, ir.IntType(LANES)), _I64)
        bad = builder.icmp_unsigned("!=", builder.bitcast(wild, ir.IntType(LANES)), ir.Constant(ir.IntType(LANES), 0))
        return builder.select(bad, ir.Constant(_I64, -1), mask)

    kinds = (fields, hold, types.int64, excitation, types.int64, inhibition, types.int64, types.int64)
    return int64(*kinds, types.uint64, types.uint64, types.uint64, parameters, types.boolean), codegen


def _fabs(builder):
    kind = _vector(_F32)
    name = f"llvm.fabs.v{LANES}f32"
    if name in builder.module.globals:
        return builder.module.globals[name]
    return ir.Function(builder.module, ir.FunctionType(kind, [kind]), name)
