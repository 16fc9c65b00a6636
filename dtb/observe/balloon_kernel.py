"""Integration of the Balloon model, in numba.

s vasodilatory signal (1/s); f flow, v volume, q deoxyhaemoglobin (relative to rest); z drive (1/s²); h step (s).
p constants.  All is for one region, but in `advance` s, f, v, q are (region,), rate is (time, region) spikes/s and bold
is (scan, region).
"""

import math

from numba import njit

# The flow oscillates and would turn negative after a hard stop of firing. It is kept at or above this value, that is
# "no flow"; the published code clips at 0 while it simulates and at this value while it assimilates.
FLOW_FLOOR = 1e-5

# A step in which the flow meets or leaves the floor is done again in this many pieces: the equation has a kink there,
# which costs O(h²) and not O(h⁵). With 64 pieces of 16 µs the cost is below 1e-8 of the signal.
PIECES = 64


@njit(cache=True, error_model="numpy")
def slope(s, f, v, q, z, on_floor, p):
    """Right-hand side; `on_floor` holds the flow where it is."""
    flow = max(f, FLOW_FLOOR)  # a Runge–Kutta stage may look a little below the floor
    extraction = 1.0 - math.exp(math.log1p(-p.rho) / flow)
    outflow = v ** (1.0 / p.alpha)
    ds = z - p.kappa * s - p.gamma * (f - 1.0)
    df = 0.0 if on_floor else s
    dv = (flow - outflow) / p.tau
    dq = (flow * extraction / p.rho - outflow * q / v) / p.tau
    return ds, df, dv, dq


@njit(cache=True, error_model="numpy")
def step(s, f, v, q, z, h, p):
    """One step of classical Runge–Kutta."""
    on_floor = f <= FLOW_FLOOR and s < 0.0
    s1, f1, v1, q1 = slope(s, f, v, q, z, on_floor, p)
    g = 0.5 * h
    s2, f2, v2, q2 = slope(s + g * s1, f + g * f1, v + g * v1, q + g * q1, z, on_floor, p)
    s3, f3, v3, q3 = slope(s + g * s2, f + g * f2, v + g * v2, q + g * q2, z, on_floor, p)
    s4, f4, v4, q4 = slope(s + h * s3, f + h * f3, v + h * v3, q + h * q3, z, on_floor, p)
    w = h / 6.0
    return (
        s + w * (s1 + 2.0 * (s2 + s3) + s4),
        f + w * (f1 + 2.0 * (f2 + f3) + f4),
        v + w * (v1 + 2.0 * (v2 + v3) + v4),
        q + w * (q1 + 2.0 * (q2 + q3) + q4),
    )


@njit(cache=True, error_model="numpy")
def after(s, f, v, q, z, span, n_steps, p):
    """State a time `span` (s) later under a constant drive."""
    h = span / n_steps
    for _ in range(n_steps):
        on_floor = f <= FLOW_FLOOR and s < 0.0
        s1, f1, v1, q1 = step(s, f, v, q, z, h, p)
        if f1 < FLOW_FLOOR or (on_floor and s1 > 0.0):
            s1, f1, v1, q1 = s, f, v, q
            for _ in range(PIECES):
                s1, f1, v1, q1 = step(s1, f1, v1, q1, z, h / PIECES, p)
                f1 = max(f1, FLOW_FLOOR)
        s, f, v, q = s1, f1, v1, q1
    return s, f, v, q


@njit(cache=True, error_model="numpy")
def advance(s, f, v, q, rate, dt, n_steps, scan_bin, scan_part, p, bold):
    """Advance all regions in place through the bins of `rate`; take scan k a fraction scan_part[k] into its bin.

    A scan is read from a copy of the state, so the state does not know when it was looked at.
    """
    k = 0
    for t in range(rate.shape[0]):
        while k < scan_bin.size and scan_bin[k] == t:
            for r in range(rate.shape[1]):
                z = p.epsilon * rate[t, r]
                _, _, vk, qk = after(s[r], f[r], v[r], q[r], z, scan_part[k] * dt, n_steps, p)
                bold[k, r] = p.V0 * (p.k1 * (1.0 - qk) + p.k2 * (1.0 - qk / vk) + p.k3 * (1.0 - vk))
            k += 1
        for r in range(rate.shape[1]):
            s[r], f[r], v[r], q[r] = after(s[r], f[r], v[r], q[r], p.epsilon * rate[t, r], dt, n_steps, p)
