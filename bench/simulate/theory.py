"""Closed forms that the simulation is held against. Rates per second, times in seconds.

Sources: L. Kleinrock, Queueing Systems I (1975), chapters 3 and 5; for M/M/c also
A. K. Erlang (1917).
"""

from __future__ import annotations

import math


def little(rate: float, stay_s: float) -> float:
    """Give how many requests are there on average: L = λ W (Little 1961)."""
    return rate * stay_s


def erlang_c(servers: int, load: float) -> float:
    """Give the probability of having to wait in M/M/c under ``load`` erlangs."""
    if load >= servers:
        return 1.0
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(load**k / math.factorial(k) for k in range(servers)) + last)


def mmc_wait(rate: float, service_s: float, servers: int = 1) -> float:
    """Give the mean wait in M/M/c: C(c, a) s / (c - a)."""
    load = rate * service_s
    return math.inf if load >= servers else erlang_c(servers, load) * service_s / (servers - load)


def mmc_quantile(rate: float, service_s: float, servers: int, share: float) -> float:
    """Give the wait that ``share`` of the requests do not exceed, in M/M/c."""
    load = rate * service_s
    waits = erlang_c(servers, load)
    return max(0.0, math.log(waits / (1 - share)) * service_s / (servers - load))


def mg1_wait(rate: float, service_s: float, variation: float) -> float:
    """Give the mean wait in M/G/1 (Pollaczek and Khinchine); ``variation``: of the service time,
    squared coefficient: 0 for M/D/1, 1 for M/M/1.
    """
    load = rate * service_s
    return math.inf if load >= 1 else load * service_s * (1 + variation) / (2 * (1 - load))


def mgc_wait(rate: float, service_s: float, servers: int, variation: float) -> float:
    """Give the mean wait in M/G/c, nearly (Lee and Longton 1959): M/M/c's times (1 + C²) / 2."""
    return mmc_wait(rate, service_s, servers) * (1 + variation) / 2


def batch_capacity(size: int, fixed_s: float, each_s: float) -> float:
    """Give the requests per second of a server that takes ``fixed_s + each_s n`` for n."""
    return size / (fixed_s + each_s * size)


def batch_size(rate: float, fixed_s: float, each_s: float) -> float:
    """Give the mean batch of a busy work-conserving server: n = λ (a + b n), so λ a / (1 - λ b)."""
    return rate * fixed_s / (1 - rate * each_s)
