"""The random words: known answers, and what must hold on exactly the streams that the product draws.

Seeds are fixed, so a test passes always or never. Where chance has a say the docstring gives the probability that an
ideal generator would have failed it. TestU01 is asked in test_rng_battery.py; docs/random-numbers.md has its scores.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from dtb.network import rng
from dtb.network.rng import Stream

SEED = 20_240_917
ALPHA = 1e-6  # probability that an ideal generator fails a statistical test; shared among what the test looks at
ROWS, NEURONS = 1_024, 1_024  # 2^20 words: enough to see a correlation of 0.006
HALF, LOW = np.uint64(32), np.uint64(0xFFFFFFFF)


def words(stream, rows=ROWS, gids=NEURONS, seed=SEED, member=0):
    """(rows, gids) uint64, the words of neurons 0..gids-1 in rows 0..rows-1 (or of the rows and gids given)."""
    rows, gids = (np.arange(n) if np.isscalar(n) else n for n in (rows, gids))
    return rng.hash64(gids, rng.key(seed, stream, rows, member)[:, None])


def limit(n):
    """|z| that one of n independent standard normals exceeds with probability ALPHA."""
    return stats.norm.isf(ALPHA / (2 * n))


def bits(word):
    """(n, 64) uint8 of 0 and 1."""
    return np.unpackbits(np.ascontiguousarray(word).ravel().view(np.uint8)).reshape(-1, 64)


def likely(chi2, degrees, n):
    """Whether none of n chi-square statistics is too large or too small, at level ALPHA."""
    return np.all(np.minimum(stats.chi2.sf(chi2, degrees), stats.chi2.cdf(chi2, degrees)) > ALPHA / (2 * n))


# Known answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_the_known_answers_of_random123(counter, key, answer):
    """kat_vectors of Random123, lines philox4x32 10."""
    counter, key, answer = (np.array([int(w, 16) for w in text.split()], np.uint32) for text in (counter, key, answer))
    assert rng.philox4x32(counter, key).tolist() == answer.tolist()


def test_a_key_is_philox_of_row_stream_and_member_under_the_seed():
    seed, row, member = 0x0123456789ABCDEF, 2**32 + 7, 3
    counter = np.array([7, 1, Stream.NOISE, member], np.uint32)
    w = rng.philox4x32(counter, np.array([0x89ABCDEF, 0x01234567], np.uint32)).tolist()
    assert rng.key(seed, Stream.NOISE, row, member).tolist() == [w[1] << 32 | w[0], w[3] << 32 | w[2]]


def test_hash64_under_the_zero_key_is_splitmix64():
    """First outputs of SplitMix64 from state 0 (Vigna, splitmix64.c): what the published finaliser is known by."""
    known = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC, 0x1B39896A51A8749B]
    assert rng.hash64(np.arange(1, 6), np.zeros(2, np.uint64)).tolist() == known
    assert rng.mix(rng.GOLDEN) == known[0]


@pytest.mark.parametrize(
    ("stream", "word", "noise"),
    [
        (Stream.POSITION, 0x5A3E222C145D62EA, -68_685),
        (Stream.WEIGHT, 0xA9E464FCE2684E00, 16_202),
        (Stream.LESION, 0xF8D8968381685EFA, 28_607),
        (Stream.PARAMETER, 0x52B9631BCE7C5605, -9_641),
        (Stream.INITIAL, 0x872FF92FA3031AD0, 15_923),
        (Stream.NOISE, 0xD2A55BE789E1AA08, 25_207),
    ],
)
def test_words_never_change(stream, word, noise):
    """Frozen on 2026-11-24; another answer is another network under every seed. rng_battery.c checks the last one."""
    drawn = rng.hash64(12_345_678_901, rng.key(0x0123456789ABCDEF, stream, 2**32 + 7, 3))
    assert (int(drawn), int(rng.noise4(drawn))) == (word, noise)


def test_keys_never_change():
    """Frozen on 2026-11-24, like the words."""
    keys = rng.key(1, Stream.POSITION, np.arange(2)).tolist()
    assert keys == [[0xE50A0EBCE3E80670, 0xB615AA2795F222C0], [0xDFC5CCBEAC08141B, 0xA7F6609379C07A47]]


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_that_does_not_fit_64_bits_is_refused(seed):
    with pytest.raises(ValueError, match="allowed: 0 to"):
        rng.key(seed, Stream.NOISE, 0)


# Avalanche -------------------------------------------------------------------------------------------------------


def flips(before, after):
    """(64,) how often each output bit changed, in standard deviations from half of the time."""
    n = before.size
    return (bits(before ^ after).sum(axis=0, dtype=np.int32) - n / 2) / np.sqrt(n / 4)


def test_each_bit_of_a_gid_flips_each_bit_of_the_word_half_of_the_time():
    """Sees a bias of 1.2 %. Fails an ideal generator with probability 1e-6."""
    gid, keys = np.arange(2**16, dtype=np.uint64), rng.key(SEED, Stream.POSITION, np.arange(2**16))
    before = rng.hash64(gid, keys)
    z = [flips(before, rng.hash64(gid ^ np.uint64(1 << bit), keys)) for bit in range(64)]
    assert np.abs(z).max() < limit(64 * 64)


def test_each_bit_of_a_gid_flips_the_words_of_one_row_half_of_the_time():
    """The same under one key, as the hot loops draw. Fails an ideal generator with probability 1e-6."""
    gid, key = np.arange(2**16, dtype=np.uint64), rng.key(SEED, Stream.NOISE, 5)
    upper = [16, 20, 24, 28, 32, 33, 40, 63]  # a bit below 16 pairs the gids among themselves: each pair once, below
    z = [flips(rng.hash64(gid, key), rng.hash64(gid ^ np.uint64(1 << bit), key)) for bit in upper]
    for bit in range(16):
        lower = gid[gid >> np.uint64(bit) & np.uint64(1) == 0]
        z.append(flips(rng.hash64(lower, key), rng.hash64(lower ^ np.uint64(1 << bit), key)))
    assert np.abs(z).max() < limit(24 * 64)


@pytest.mark.parametrize("changed", ["seed", "row", "member"])
def test_each_bit_of_what_a_key_is_made_of_flips_each_bit_of_the_word_half_of_the_time(changed):
    """Seed and row (synapse number, step) have 64 bits, member has 32. Fails an ideal one with probability 1e-6."""
    rows = np.arange(2**13, dtype=np.uint64)
    gid = rows * np.uint64(2_003)
    before = rng.hash64(gid, rng.key(SEED, Stream.NOISE, rows))
    z = []
    for bit in range(32 if changed == "member" else 64):
        flip = {name: 1 << bit if name == changed else 0 for name in ("seed", "row", "member")}
        keys = rng.key(SEED ^ flip["seed"], Stream.NOISE, rows ^ np.uint64(flip["row"]), flip["member"])
        z.append(flips(before, rng.hash64(gid, keys)))
    assert np.abs(z).max() < limit(len(z) * 64)


# No word twice ---------------------------------------------------------------------------------------------------


def test_no_two_of_eleven_million_words_are_equal():
    """Neither across neurons, rows, streams, seeds nor members. Fails an ideal generator with probability 3.4e-6."""
    drawn = [words(stream, 100, 12_500) for stream in Stream]
    drawn += [words(Stream.NOISE, 100, 12_500, member=1), words(Stream.POSITION, 100, 12_500, seed=SEED + 1)]
    drawn = np.concatenate(drawn, axis=None)
    assert drawn.size == 11_250_000
    assert np.all(np.diff(np.sort(drawn)))


def test_no_row_is_another_row_in_another_order():
    """What the second half of a key is for: with the first alone, every index has a twin of equal word in each row.

    The twin solves i' G XOR a' = i G XOR a. Fails an ideal generator with probability 4e-15.
    """
    index = np.arange(2**16, dtype=np.uint64)
    here, there = rng.key(SEED, Stream.NOISE, np.arange(2))
    inverse = np.uint64(pow(int(rng.GOLDEN), -1, 2**64))
    twin = (index * rng.GOLDEN ^ here[0] ^ there[0]) * inverse
    assert np.array_equal(twin * rng.GOLDEN ^ there[0], index * rng.GOLDEN ^ here[0])
    assert np.all(rng.hash64(index, here) != rng.hash64(twin, there))


@pytest.mark.parametrize("stream", [Stream.POSITION, Stream.NOISE])
@pytest.mark.parametrize("shift", [0, 32], ids=["low", "high"])
def test_two_rows_share_half_words_only_by_chance(stream, shift):
    """256 of 2^20 neurons meet another's half word in the next row, and no XOR and no distance is what they share.

    Five times the same distance has probability 1e-12; the count fails an ideal generator with probability 1e-6.
    """
    n, pairs, most = 2**20, 2, 5
    total = 0
    for row in range(pairs):
        here, there = (words(stream, np.array([r]), n)[0] >> np.uint64(shift) & LOW for r in (row, row + 1))
        _, i, k = np.intersect1d(here, there, return_indices=True)
        total += len(i)
        for relation in (i ^ k, i - k):
            assert np.unique(relation, return_counts=True)[1].max() < most
    expected = pairs * n * n / 2**32
    assert abs(total - expected) < limit(1) * np.sqrt(expected)


# Uniform and uncorrelated ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", Stream)
def test_top_and_low_byte_are_uniform(stream):
    """Chi-square of 2^20 words, 255 degrees, neither too large nor too small. Probability for an ideal one: 1e-6."""
    drawn = words(stream).ravel()
    chi2 = [stats.chisquare(np.bincount(drawn >> np.uint64(s) & np.uint64(255), minlength=256))[0] for s in (0, 56)]
    assert likely(np.array(chi2), 255, 2)


PAIRS = {
    "neighbours": lambda: (words(Stream.NOISE)[:, :-1], words(Stream.NOISE)[:, 1:]),
    "neurons a tile apart": lambda: (words(Stream.NOISE), words(Stream.NOISE, gids=np.arange(NEURONS) + 65_536)),
    "steps": lambda: (words(Stream.NOISE)[:-1], words(Stream.NOISE)[1:]),
    "strata": lambda: (words(Stream.POSITION)[:-1], words(Stream.POSITION)[1:]),
    "stratum and next neuron": lambda: (words(Stream.POSITION)[:-1, 1:], words(Stream.POSITION)[1:, :-1]),
    "position and weight": lambda: (words(Stream.POSITION), words(Stream.WEIGHT)),
    "position and lesion": lambda: (words(Stream.POSITION), words(Stream.LESION)),
    "weight and lesion": lambda: (words(Stream.WEIGHT), words(Stream.LESION)),
    "members": lambda: (words(Stream.NOISE), words(Stream.NOISE, member=1)),
    "seeds": lambda: (words(Stream.NOISE), words(Stream.NOISE, seed=SEED + 1)),
    "noise and position": lambda: (words(Stream.NOISE), words(Stream.POSITION)),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_words_do_not_correlate_between(pair):
    """As fractions, as noise, and each bit with each bit to 2.5 %. Fails an ideal generator with probability 1e-6."""
    first, second = (np.ascontiguousarray(w).ravel() for w in PAIRS[pair]())
    whole = [np.corrcoef(f(first), f(second))[0, 1] for f in (np.float64, rng.noise4, lambda w: np.float64(w & LOW))]
    few = slice(2**16)
    rotated = [second[few] << np.uint64(r) | second[few] >> np.uint64(63 - r) >> np.uint64(1) for r in range(64)]
    single = [flips(first[few], other) for other in rotated]  # not as a matrix product: BLAS threads spin
    z = np.append(np.array(whole) * np.sqrt(first.size), single)
    assert np.abs(z).max() < limit(z.size)


# Noise -----------------------------------------------------------------------------------------------------------


def test_noise_has_the_moments_of_four_uniforms():
    """Mean 0, variance (m² - 1)/3 and kurtosis -0.3 (m² + 1)/(m² - 1) with m = 65536; each to 5.1 standard errors.

    Fails an ideal generator with probability 1e-6.
    """
    noise = rng.noise4(words(Stream.NOISE, 2_048, 2_048).ravel()) / rng.NOISE_SD
    n = noise.size
    kurtosis = -0.3 * (65_536**2 + 1) / (65_536**2 - 1)
    square = noise * noise
    z = [
        noise.mean() * np.sqrt(n),
        (square.mean() - 1) * np.sqrt(n / (kurtosis + 2)),
        (noise * square).mean() * np.sqrt(n / moment(6)),
        ((square * square).mean() - moment(4)) * np.sqrt(n / (moment(8) - moment(4) ** 2)),
    ]
    assert moment(4) == pytest.approx(3 + kurtosis)
    assert np.abs(z).max() < limit(len(z))


def moment(order):
    """Standardised moment of the sum of four continuous uniforms, which 65536 levels change by 2e-10."""
    x = np.linspace(-2, 2, 400_001)
    return np.trapezoid(irwin_hall(x + 2, 3) * (x * np.sqrt(3)) ** order, x)


def irwin_hall(x, power):
    """Sum of four uniforms: density (power 3) or distribution (power 4) at x from 0 to 4. Hall (1927), Biometrika."""
    terms = [sign * np.maximum(x - k, 0.0) ** power for k, sign in enumerate((1, -4, 6, -4, 1))]
    return sum(terms) / math.factorial(power)


def test_noise_has_the_distribution_of_four_uniforms():
    """Chi-square of 2^20 words in 64 bins against Irwin-Hall. Fails an ideal generator with probability 1e-6."""
    noise = rng.noise4(words(Stream.NOISE).ravel()) / 65_536 + 2
    edges = np.linspace(0.4, 3.6, 63)
    expected = np.diff(irwin_hall(edges, 4), prepend=0, append=1) * noise.size
    seen = np.bincount(np.searchsorted(edges, noise), minlength=64)
    assert likely(((seen - expected) ** 2 / expected).sum(), 63, 1)


def test_noise_ends_at_three_and_a_half_standard_deviations():
    ends = rng.noise4(np.array([0, 2**64 - 1], np.uint64))
    assert ends.tolist() == [-131_070, 131_070]
    assert ends[1] / rng.NOISE_SD == pytest.approx(np.sqrt(12), rel=1e-4)


@pytest.mark.parametrize("stride", [1, 64, 65_536])
def test_noise_summed_over_neurons_or_steps_varies_as_independent_noise_does(stride):
    """A common part of the noise of many neurons, or a slow one of one neuron, would be seen as activity.

    1024 sums of 1024 each, chi-square. Fails an ideal generator with probability 1e-6.
    """
    noise = rng.noise4(words(Stream.NOISE, gids=np.arange(NEURONS) * stride)).astype(np.int64)
    scale = rng.NOISE_SD * np.sqrt(1_024)
    assert likely(np.array([((noise.sum(axis=a) / scale) ** 2).sum() for a in (0, 1)]), 1_024, 2)


def test_noise_of_a_neuron_has_no_period():
    """Autocorrelation of 2^17 steps at all lags up to 4096, for 8 neurons. Fails an ideal one with probability 1e-6."""
    n, lags = 2**17, 4_096
    noise = rng.noise4(words(Stream.NOISE, n, np.arange(8))).T / rng.NOISE_SD
    power = np.abs(np.fft.rfft(noise, 2 * n)) ** 2
    lagged = np.fft.irfft(power)[:, 1:lags] / np.sqrt(n - np.arange(1, lags))
    assert np.abs(lagged).max() < limit(lagged.size)
