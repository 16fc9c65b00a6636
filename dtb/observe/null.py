"""What a similarity of two functional connectivities would be if regions had nothing to do with each other."""

from __future__ import annotations

import numpy as np

from dtb.observe.measures import fc_correlation


def shuffled_fc_correlations(fc_a: np.ndarray, fc_b: np.ndarray, n: int = 10_000, seed: int = 0) -> np.ndarray:
    """`fc_correlation` of fc_a with fc_b after the regions of fc_b were shuffled, (n,) float64, one for each shuffle.

    Parameters
    ----------
    fc_a, fc_b : (region, region) array
        Symmetric.
    n : int
        Number of shuffles.
    seed : int

    Notes
    -----
    Rows and columns are permuted together (the Mantel test), so that each null matrix keeps the values of fc_b and
    what a region has in common with others. It does not keep how similarity falls with distance, which two brains
    always share: it is an easy null, and a small p says only that regions are not interchangeable.

    References
    ----------
    Mantel (1967), Cancer Research 27:209.

    Examples
    --------
    >>> import numpy as np
    >>> from dtb.observe.null import p_value, shuffled_fc_correlations
    >>> fc = np.corrcoef(np.random.default_rng(1).normal(size=(20, 30)))
    >>> null = shuffled_fc_correlations(fc, fc, n=999)
    >>> null.shape, p_value(1.0, null)
    ((999,), 0.001)
    """
    if n < 1:
        raise ValueError(f"n is {n}. At least one shuffle is needed.")
    fc_correlation(fc_a, fc_b)  # refuses what has no correlation
    a, b = np.asarray(fc_a, float), np.asarray(fc_b, float)
    pairs = np.triu_indices(len(a), k=1)
    x, y = a[pairs], b[pairs]
    x = (x - x.mean()) / (x.std() * len(x))  # shuffles change neither the mean nor the spread of y
    centred = (b - y.mean()) / y.std()
    rng = np.random.default_rng(seed)
    found = np.empty(n)
    for k in range(n):
        order = rng.permutation(len(a))
        found[k] = x @ centred[order[pairs[0]], order[pairs[1]]]
    return found


def p_value(value: float, null: np.ndarray) -> float:
    """Share of the null at or above a value, the value itself counted, so that it is never 0.

    Parameters
    ----------
    value : float
    null : (n,) array

    Notes
    -----
    p = (1 + #{null ≥ value}) / (1 + n), one-sided.

    References
    ----------
    Phipson & Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9:39.

    Examples
    --------
    >>> import numpy as np
    >>> from dtb.observe.null import p_value
    >>> p_value(0.5, np.array([0.1, 0.6, 0.2]))
    0.5
    """
    return float((1 + np.count_nonzero(np.asarray(null) >= value)) / (1 + len(null)))
