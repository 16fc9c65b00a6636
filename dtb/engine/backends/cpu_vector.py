"""Eight lanes of 64 bits at a time, written as vector code.

The loops of delivery are short (a dozen spikes, a few dozen strata), and LLVM's own vector loops leave most of such a
loop to their scalar remainder. These intrinsics are the bodies of those loops for eight lanes; arrays are padded to
whole vectors, and lanes past the end are computed and not used.
"""

from __future__ import annotations

from llvmlite import ir
from numba import int64, types
from numba.extending import intrinsic

from dtb.network import rng

LANES_64 = 8
_I64, _I32, _F64 = ir.IntType(64), ir.IntType(32), ir.DoubleType()
_V64, _V32, _VF = (ir.VectorType(t, LANES_64) for t in (_I64, _I32, _F64))


class _Code:
    """A builder with the few vector operations that are needed."""

    def __init__(self, context, builder, signature, args) -> None:
        self.context, self.builder, self.signature, self.args = context, builder, signature, args

    def splat(self, value, vector=_V64):
        builder = self.builder
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(_I32, 0))
        zeros = ir.Constant(ir.VectorType(_I32, LANES_64), [0] * LANES_64)
        return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)

    def constant(self, number):
        return ir.Constant(_V64, [int(number)] * LANES_64)

    def address(self, argument: int, index, vector):
        kind = self.signature.args[argument]
        array = self.context.make_array(kind)(self.context, self.builder, self.args[argument])
        item = self.builder.gep(array.data, [index])
        return self.builder.bitcast(item, vector.as_pointer()), kind.dtype.bitwidth // 8

    def load(self, argument: int, index, vector=_V64):
        pointer, align = self.address(argument, index, vector)
        return self.builder.load(pointer, align=align)

    def store(self, value, argument: int, index, vector=_V64) -> None:
        pointer, align = self.address(argument, index, vector)
        self.builder.store(value, pointer, align=align)

    def hash(self, z, key_0, key_1):
        """rng.hash64 of indices already multiplied by GOLDEN."""
        b = self.builder
        z = b.xor(z, key_0)
        z = b.xor(b.mul(b.xor(z, b.lshr(z, self.constant(30))), self.constant(rng.MIX_1)), key_1)
        z = b.mul(b.xor(z, b.lshr(z, self.constant(27))), self.constant(rng.MIX_2))
        return b.xor(z, b.lshr(z, self.constant(31)))

    def compress(self, value, mask):
        """The lanes of a mask moved to the front; the rest is undefined."""
        name, module = "llvm.experimental.vector.compress.v8i64", self.builder.module
        if name not in module.globals:
            ir.Function(module, ir.FunctionType(_V64, [_V64, mask.type, _V64]), name)
        return self.builder.call(module.globals[name], [value, mask, ir.Constant(_V64, ir.Undefined)])

    def place(self, r, base, spare, scale, last, column):
        """synapses.place: base is (stratum - bound) << spare, last the largest target; columns as 8 × int32."""
        b = self.builder
        rest = b.sub(ir.Constant(_I64, 32), spare)
        exact = b.add(base, b.lshr(r, self.splat(rest)))
        found = b.fptosi(b.fmul(b.sitofp(exact, _VF), self.splat(scale, _VF)), _V64)
        limit = self.splat(last)
        found = b.select(b.icmp_signed("<", found, limit), found, limit)
        return b.trunc(b.add(found, self.splat(column)), _V32)


@intrinsic
def gather8(typingctx, index, at, base, z, to):
    """z[to : to + 8] = base + GOLDEN · index[at : at + 8]."""

    def codegen(context, builder, signature, args):
        code = _Code(context, builder, signature, args)
        numbers = builder.zext(code.load(0, args[1], ir.VectorType(ir.IntType(16), LANES_64)), _V64)
        spread = builder.mul(numbers, code.constant(rng.GOLDEN))
        code.store(builder.add(code.splat(args[2]), spread), 3, args[4])
        return context.get_dummy_value()

    return types.void(index, at, base, z, to), codegen


@intrinsic
def draw8(typingctx, z, at, key_0, key_1, draw):
    """draw[at : at + 8]: one stratum of eight spikes."""

    def codegen(context, builder, signature, args):
        code = _Code(context, builder, signature, args)
        code.store(code.hash(code.load(0, args[1]), code.splat(args[2]), code.splat(args[3])), 4, args[1])
        return context.get_dummy_value()

    return types.void(z, at, key_0, key_1, draw), codegen


@intrinsic
def sieve8(typingctx, z, at, n, key_0, key_1, begin, width, to, kept, kept_z, kept_draw):
    """Draw one stratum of the spikes at : at + 8, those below n, and append to the kept ones, from `to` on, those whose
    top half is in begin : begin + width: their number, z and draw. Returns how many.

    Without a branch: which spikes are kept is random, and guessing wrong costs more than the draw.
    """

    def codegen(context, builder, signature, args):
        code = _Code(context, builder, signature, args)
        z = code.load(0, args[1])
        r = code.hash(z, code.splat(args[3]), code.splat(args[4]))
        number = builder.add(code.splat(args[1]), ir.Constant(_V64, list(range(LANES_64))))
        inside = builder.sub(builder.lshr(r, code.constant(32)), code.splat(args[5]))
        mask = builder.and_(
            builder.icmp_unsigned("<", inside, code.splat(args[6])),
            builder.icmp_unsigned("<", number, code.splat(args[2])),
        )
        code.store(builder.trunc(code.compress(number, mask), _V32), 8, args[7], _V32)
        code.store(code.compress(z, mask), 9, args[7])
        code.store(code.compress(r, mask), 10, args[7])
        return builder.zext(builder.ctpop(builder.bitcast(mask, ir.IntType(LANES_64))), _I64)

    kinds = (types.uint64,) * 7
    return types.uint64(z, *kinds, kept, kept_z, kept_draw), codegen


@intrinsic
def place8(typingctx, draw, at, begin, base, spare, scale, last, column, target):
    """target[at : at + 8]: the columns that draws of one stratum hit, where their top half is at least `begin`.

    Called for each segment of a stratum in turn, so that the last one that a draw reaches is the one that counts.
    """

    def codegen(context, builder, signature, args):
        code = _Code(context, builder, signature, args)
        r = code.load(0, args[1])
        hit = code.place(r, code.splat(args[3]), *args[4:8])
        reached = builder.icmp_unsigned(">=", builder.lshr(r, code.constant(32)), code.splat(args[2]))
        code.store(builder.select(reached, hit, code.load(8, args[1], _V32)), 8, args[1], _V32)
        return context.get_dummy_value()

    return types.void(draw, at, begin, base, spare, scale, last, column, target), codegen


@intrinsic
def choose8(typingctx, z, at, key_0, key_1, choice):
    """choice[at : at + 8]: weight classes, top byte of the weight word, of eight spikes in one stratum."""

    def codegen(context, builder, signature, args):
        code = _Code(context, builder, signature, args)
        r = code.hash(code.load(0, args[1]), code.splat(args[2]), code.splat(args[3]))
        code.store(builder.trunc(builder.lshr(r, code.constant(56)), _V32), 4, args[1], _V32)
        return context.get_dummy_value()

    return types.void(z, at, key_0, key_1, choice), codegen


@intrinsic
def strata8(typingctx, z, key_0, key_1, j, base, spare, scale, last, column, to, target):
    """target[to : to + 8]: the columns that one spike hits in strata j : j + 8; base belongs to stratum j."""

    def codegen(context, builder, signature, args):
        code = _Code(context, builder, signature, args)
        r = code.hash(code.splat(args[0]), code.load(1, args[3]), code.load(2, args[3]))
        steps = ir.Constant(_V64, [x << 32 for x in range(LANES_64)])
        base = builder.add(code.splat(args[4]), builder.shl(steps, code.splat(args[5])))
        code.store(code.place(r, base, *args[5:9]), 10, args[9], _V32)
        return context.get_dummy_value()

    return types.void(z, key_0, key_1, j, base, spare, scale, last, column, to, target), codegen


@intrinsic
def choose_strata8(typingctx, z, key_0, key_1, j, to, choice):
    """choice[to : to + 8]: weight classes of one spike in strata j : j + 8."""

    def codegen(context, builder, signature, args):
        code = _Code(context, builder, signature, args)
        r = code.hash(code.splat(args[0]), code.load(1, args[3]), code.load(2, args[3]))
        code.store(builder.trunc(builder.lshr(r, code.constant(56)), _V32), 5, args[4], _V32)
        return context.get_dummy_value()

    return types.void(z, key_0, key_1, j, to, choice), codegen


@intrinsic
def bit_length(typingctx, value):
    """Bits that a positive uint64 takes."""

    def codegen(context, builder, signature, args):
        zeros = builder.ctlz(args[0], ir.Constant(ir.IntType(1), 1))
        return builder.sub(ir.Constant(_I64, 64), zeros)

    return int64(types.uint64), codegen
