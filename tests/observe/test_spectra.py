import doctest

import numpy as np
import pytest
from scipy.signal import welch

import dtb.observe.spectra
from dtb.observe.spectra import power_spectrum


def cut(series, rng, n=7):
    """The series in pieces of unequal length, some of them empty."""
    places = np.sort(rng.integers(0, len(series), n))
    return np.split(series, [0, *places])


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.75])
def test_the_spectrum_is_the_one_of_scipy(rng, overlap):
    """To rounding: sums over 250 rows."""
    series = rng.normal(5, 2, (3_017, 3))
    spectrum = power_spectrum(series, dt=2.0, segment_ms=500.0, overlap=overlap)
    frequency, density = welch(series, fs=500.0, nperseg=250, noverlap=round(overlap * 250), axis=0)
    assert np.array_equal(spectrum.frequency, frequency)
    assert spectrum.density == pytest.approx(density, rel=1e-10)


def test_blocks_give_the_very_spectrum_of_the_whole(rng):
    series = rng.normal(size=(5_000, 2)).astype(np.float32)
    whole = power_spectrum(series, dt=1.0, segment_ms=512.0)
    assert np.array_equal(power_spectrum(cut(series, rng), dt=1.0, segment_ms=512.0).density, whole.density)


def test_white_noise_has_a_flat_spectrum_whose_integral_is_its_variance(rng):
    """Density 2 σ² dt: 2 · 4 · 1 ms = 0.008 per Hz. 400 segments, half of them independent: 7 % per frequency."""
    spectrum = power_spectrum(rng.normal(0, 2, (100_000, 1)), dt=1.0, segment_ms=500.0)
    assert spectrum.density[2:-1] == pytest.approx(0.008, rel=0.35)  # five standard errors
    assert spectrum.density[2:-1].mean() == pytest.approx(0.008, rel=0.02)


def test_bold_is_in_hertz(rng):
    time_s = np.arange(600) * 0.72
    bold = np.sin(2 * np.pi * 0.05 * time_s)[:, None] + 0.1 * rng.normal(size=(600, 1))
    spectrum = power_spectrum(bold, dt=720.0, segment_ms=100 * 720.0)
    assert spectrum.peak[0] == pytest.approx(0.05, abs=1 / 72)


def test_a_series_shorter_than_a_segment_is_refused():
    with pytest.raises(ValueError, match="shorter than one segment of 500 ms"):
        power_spectrum([np.zeros((300, 1)), np.zeros((199, 1))], dt=1.0, segment_ms=500.0)


def test_a_hole_is_refused_with_its_row_in_the_whole_series():
    second = np.zeros((300, 2))
    second[4, 1] = np.nan
    with pytest.raises(ValueError, match="series is nan in row 304"):
        power_spectrum([np.zeros((300, 2)), second], dt=1.0, segment_ms=100.0)


def test_blocks_of_other_columns_are_refused():
    with pytest.raises(ValueError, match=r"rows of shape \(2,\) and, from row 300 on, of \(3,\)"):
        power_spectrum([np.zeros((300, 2)), np.zeros((300, 3))], dt=1.0, segment_ms=100.0)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"segment_ms": 100.5}, "not a whole number of steps"),
        ({"segment_ms": 100.0, "overlap": 1.0}, "overlap is 1.0"),
        ({"segment_ms": 1.0}, "At least two rows"),
    ],
)
def test_an_impossible_segment_is_refused(keywords, message):
    with pytest.raises(ValueError, match=message):
        power_spectrum(np.zeros((300, 1)), dt=1.0, **keywords)


def test_the_examples_in_the_docstrings_run():
    result = doctest.testmod(dtb.observe.spectra)
    assert result.attempted > 3 and result.failed == 0
