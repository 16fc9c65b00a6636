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
_I64, _I32, _I16, _I8, _F64 = *(ir.IntType(bits) for bits in (64, 32, 16, 8)), ir.DoubleType()
_V64, _V32, _V16, _V8, _VF = (ir.VectorType(t, LANES_64) for t in (_I64, _I32, _I16, _I8, _F64))


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

    def compress(self, value, mask, vector=_V64):
        """The lanes of a mask moved to the front; the rest is undefined."""
        kind = "v8i64" if vector is _V64 else "v8i32"
        name, module = f"llvm.experimental.vector.compress.{kind}", self.builder.module
        if name not in module.globals:
            ir.Function(module, ir.FunctionType(vector, [vector, mask.type, vector]), name)
        return self.builder.call(module.globals[name], [value, mask, ir.Constant(vector, ir.Undefined)])

    def count(self, mask):
        return self.builder.zext(self.builder.ctpop(self.builder.bitcast(mask, ir.IntType(LANES_64))), _I64)

    def spike(self, neuron: int, at, plane: int | None = None, since: int | None = None):
        """Neurons in their tile at : at + 8, with steps later than `since` in bits 16 and up; 8 × int32."""
        b = self.builder
        word = b.zext(self.load(neuron, at, _V16), _V32)
        if plane is None:
            return word
        step = b.sub(self.load(plane, at, _V8), self.splat(self.args[since], _V8))
        return b.or_(word, b.shl(b.zext(step, _V32), ir.Constant(_V32, [16] * LANES_64)))

    def kept(self, argument, at, z):
        """GOLDEN · gid, neuron in its tile and step of kept spikes at : at + 8; z: GOLDEN · first gid of the tile."""
        b = self.builder
        word = self.load(argument, at, _V32)
        neuron = b.and_(word, ir.Constant(_V32, [0xFFFF] * LANES_64))
        gid = b.add(self.splat(z), b.mul(b.zext(neuron, _V64), self.constant(rng.GOLDEN)))
        return gid, neuron, b.lshr(word, ir.Constant(_V32, [16] * LANES_64))

    def pack(self, index, word):
        """index · 256 + the top byte of a word, as 8 × int32."""
        b = self.builder
        choice = b.trunc(b.lshr(word, self.constant(56)), _V32)
        return b.or_(b.shl(index, ir.Constant(_V32, [8] * LANES_64)), choice)

    def settle(self, target, keys: tuple[int, int], rest: int):
        """`pack8` of a target; keys: numbers of the two arguments, rest: of stride, start, mine and found."""
        b, args = self.builder, self.args
        gid, neuron, step = self.kept(0, args[1], args[2])
        stride, start, mine = (b.trunc(args[rest + x], _I32) for x in range(3))
        last = self.splat(b.sub(stride, ir.Constant(_I32, 1)), _V32)
        own = b.icmp_signed("==", target, b.add(neuron, self.splat(mine, _V32)))
        row = b.add(b.mul(step, self.splat(stride, _V32)), self.splat(start, _V32))
        index = b.add(b.select(own, last, target), row)
        word = self.hash(gid, *(self.splat(args[key]) for key in keys))
        self.store(self.pack(index, word), rest + 3, args[1], _V32)
        return b.zext(b.bitcast(own, ir.IntType(LANES_64)), _I64)

    def reach(self, r, begin, hit, otherwise):
        """`hit` where the top half of a draw is at least `begin`."""
        b = self.builder
        reached = b.icmp_unsigned(">=", b.lshr(r, self.constant(32)), self.splat(begin))
        return b.select(reached, hit, otherwise)

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
def prefetch(typingctx, array, at):
    """Have an element of an array on its way into the first-level cache."""

    def codegen(context, builder, signature, args):
        code = _Code(context, builder, signature, args)
        pointer, _ = code.address(0, args[1], ir.IntType(8))
        name, module = "llvm.prefetch.p0", builder.module
        if name not in module.globals:
            ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer.type, _I32, _I32, _I32]), name)
        numbers = [ir.Constant(_I32, number) for number in (0, 3, 1)]  # to read, keep, data
        builder.call(module.globals[name], [pointer, *numbers])
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen


def _sieve(code, neuron, at, number, n, z, key_0, key_1, begin, width, to, kept, plane=None, since=None):
    """Body of `sieve8`; numbers of arguments."""
    b, args = code.builder, code.args
    index = code.load(neuron, args[at], _V16)
    gid = b.mul(b.zext(index, _V64), code.constant(rng.GOLDEN))
    r = code.hash(b.add(code.splat(args[z]), gid), code.splat(args[key_0]), code.splat(args[key_1]))
    order = b.add(code.splat(args[number]), ir.Constant(_V64, list(range(LANES_64))))
    inside = b.sub(b.lshr(r, code.constant(32)), code.splat(args[begin]))
    mask = b.and_(
        b.icmp_unsigned("<", inside, code.splat(args[width])), b.icmp_unsigned("<", order, code.splat(args[n]))
    )
    word = code.spike(neuron, args[at], plane, since)
    code.store(code.compress(word, mask, _V32), kept, args[to], _V32)
    return code.count(mask)


@intrinsic
def keep8(typingctx, neuron, at, to, kept):
    """Append the spikes of neuron[at : at + 8] to `kept`, from `to` on."""

    def codegen(context, builder, signature, args):
        code = _Code(context, builder, signature, args)
        code.store(code.spike(0, args[1]), 3, args[2], _V32)
        return context.get_dummy_value()

    return types.void(neuron, types.uint64, types.uint64, kept), codegen


@intrinsic
def timed_keep8(typingctx, neuron, at, to, kept, plane, since):
    """`keep8` with steps, as in `timed_sieve8`."""

    def codegen(context, builder, signature, args):
        code = _Code(context, builder, signature, args)
        code.store(code.spike(0, args[1], 4, 5), 3, args[2], _V32)
        return context.get_dummy_value()

    return types.void(neuron, types.uint64, types.uint64, kept, plane, types.uint8), codegen


@intrinsic
def sieve8(typingctx, neuron, at, number, n, z, key_0, key_1, begin, width, to, kept):
    """Draw one stratum for the spikes of neuron[at : at + 8], numbers number : number + 8 of n.

    Those whose top half is in begin : begin + width are appended to `kept`, from `to` on.  z: GOLDEN · first gid of
    their tile.  Returns how many.  Without a branch: which spikes are kept is random, and guessing wrong costs more
    than the draw.
    """

    def codegen(context, builder, signature, args):
        return _sieve(_Code(context, builder, signature, args), *range(11))

    return types.uint64(neuron, *(types.uint64,) * 9, kept), codegen


@intrinsic
def timed_sieve8(typingctx, neuron, at, number, n, z, key_0, key_1, begin, width, to, kept, plane, since):
    """`sieve8`, and into bits 16 and up of what is kept the spike's step, less `since`."""

    def codegen(context, builder, signature, args):
        return _sieve(_Code(context, builder, signature, args), *range(13))

    return types.uint64(neuron, *(types.uint64,) * 9, kept, plane, types.uint8), codegen


@intrinsic
def redraw8(typingctx, kept, at, z, key_0, key_1, draw):
    """draw[at : at + 8]: draws of kept spikes in one stratum; z: GOLDEN · first gid of their tile."""

    def codegen(context, builder, signature, args):
        code = _Code(context, builder, signature, args)
        gid, _, _ = code.kept(0, args[1], args[2])
        code.store(code.hash(gid, code.splat(args[3]), code.splat(args[4])), 5, args[1])
        return context.get_dummy_value()

    return types.void(kept, *(types.uint64,) * 4, draw), codegen


@intrinsic
def place8(typingctx, draw, at, reach, before, spare, scale, most, column, target):
    """target[at : at + 8]: the columns that draws of one stratum hit, where their top half is at least `reach`.

    before: u from the segment's bound to the stratum.  Called for each segment of a stratum in turn, so that the last
    one that a draw reaches is the one that counts.
    """

    def codegen(context, builder, signature, args):
        code = _Code(context, builder, signature, args)
        r = code.load(0, args[1])
        hit = code.place(r, code.splat(builder.shl(args[3], args[4])), *args[4:8])
        target = code.reach(r, args[2], hit, code.load(8, args[1], _V32))
        code.store(target, 8, args[1], _V32)
        return context.get_dummy_value()

    kinds = [types.uint64] * 4 + [types.float64, types.int64, types.int64]
    return types.void(draw, *kinds, target), codegen


@intrinsic
def pack8(typingctx, kept, at, z, key_0, key_1, stride, start, mine, found, target):
    """found[at : at + 8] of kept spikes: index into sums · 256 + weight class, the top byte of the weight word.

    The index is start + step · stride + target.  mine: column of the tile's first neuron; a spike that hits itself is
    given the last column of its row.  Returns which did.
    """

    def codegen(context, builder, signature, args):
        code = _Code(context, builder, signature, args)
        return code.settle(code.load(9, args[1], _V32), (3, 4), 5)

    u, i = types.uint64, types.int64
    return u(kept, u, u, u, u, i, i, i, found, target), codegen


@intrinsic
def settle8(
    typingctx, kept, at, z, position_0, position_1, weight_0, weight_1, stride, start, mine, found, before, spare,
    scale, most, column,
):  # fmt: skip
    """`redraw8`, `place8` and `pack8` for the only segment of a stratum."""

    def codegen(context, builder, signature, args):
        code = _Code(context, builder, signature, args)
        gid, _, _ = code.kept(0, args[1], args[2])
        r = code.hash(gid, code.splat(args[3]), code.splat(args[4]))
        return code.settle(code.place(r, code.splat(builder.shl(args[11], args[12])), *args[12:16]), (5, 6), 7)

    u, f, i = types.uint64, types.float64, types.int64
    return u(kept, u, u, u, u, u, u, i, i, i, found, u, u, f, i, i), codegen


@intrinsic
def settle_two8(
    typingctx, kept, at, z, position_0, position_1, weight_0, weight_1, stride, start, mine, found, before_1, spare_1,
    scale_1, most_1, column_1, reach, before_2, spare_2, scale_2, most_2, column_2,
):  # fmt: skip
    """`settle8` for two segments, of which the second is hit from `reach` on."""

    def codegen(context, builder, signature, args):
        code = _Code(context, builder, signature, args)
        gid, _, _ = code.kept(0, args[1], args[2])
        r = code.hash(gid, code.splat(args[3]), code.splat(args[4]))
        one = code.place(r, code.splat(builder.shl(args[11], args[12])), *args[12:16])
        two = code.place(r, code.splat(builder.shl(args[17], args[18])), *args[18:22])
        return code.settle(code.reach(r, args[16], two, one), (5, 6), 7)

    u, f, i = types.uint64, types.float64, types.int64
    return u(kept, u, u, u, u, u, u, i, i, i, found, u, u, f, i, i, u, u, u, f, i, i), codegen


@intrinsic
def strata8(
    typingctx, z, position_0, position_1, weight_0, weight_1, j, low, high, base, spare, scale, last, column, mine, to,
    found,
):  # fmt: skip
    """Append what one spike hits in strata j : j + 8 between low and high to `found`, from `to` on, as in `pack8`.

    base belongs to stratum j; column: index into sums of the population's first neuron; mine: of the spike itself.
    Returns how many, and in the upper half of 64 bits how many hit the spike itself and were left out.
    """

    def codegen(context, builder, signature, args):
        code = _Code(context, builder, signature, args)
        j = args[5]
        z = code.splat(args[0])
        r = code.hash(z, code.load(1, j), code.load(2, j))
        steps = ir.Constant(_V64, [x << 32 for x in range(LANES_64)])
        u = builder.add(
            builder.lshr(r, code.constant(32)), builder.add(steps, code.splat(builder.shl(j, ir.Constant(_I64, 32))))
        )
        inside = builder.icmp_unsigned(
            "<", builder.sub(u, code.splat(args[6])), code.splat(builder.sub(args[7], args[6]))
        )
        base = builder.add(code.splat(args[8]), builder.shl(steps, code.splat(args[9])))
        target = code.place(r, base, *args[9:13])
        other = builder.icmp_signed("!=", target, code.splat(builder.trunc(args[13], _I32), _V32))
        mask = builder.and_(inside, other)
        word = code.hash(z, code.load(3, j), code.load(4, j))
        code.store(code.compress(code.pack(target, word), mask, _V32), 15, args[14], _V32)
        own = code.count(builder.and_(inside, builder.not_(other)))
        return builder.or_(code.count(mask), builder.shl(own, ir.Constant(_I64, 32)))

    kinds = [types.uint64] * 5 + [types.float64] + [types.int64] * 3 + [types.uint64]
    keys = position_0, position_1, weight_0, weight_1
    return types.uint64(types.uint64, *keys, *kinds, found), codegen


@intrinsic
def bit_length(typingctx, value):
    """Bits that a positive uint64 takes."""

    def codegen(context, builder, signature, args):
        zeros = builder.ctlz(args[0], ir.Constant(ir.IntType(1), 1))
        return builder.sub(ir.Constant(_I64, 64), zeros)

    return int64(types.uint64), codegen
