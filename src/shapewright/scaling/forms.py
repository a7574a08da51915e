"""Loss families: the loss as a function of size, tokens and shape, with exact gradients.

Decisions: every family is a sum of positive terms, each an exponential of something linear (or quadratic)
in the parameters, so that a fit, its covariance and a prediction share one function. Amplitudes are fitted
and kept as logarithms at a stated reference size (1e9 parameters, 1e10 tokens), which takes the condition
number of the Chinchilla problem from about 1e11 to below 1e4; files and tables show the published units.
All functions broadcast over NumPy arrays and return the gradient of ln L, one array per parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shapewright.errors import UnknownNameError
from shapewright.scaling.experts import ln_cut
from shapewright.scaling.leverage import TIAN, leverage_power, ln_leverage

Array = NDArray[np.float64]
Inputs = Mapping[str, Array]
Gradient = list[Array]
Evaluate = Callable[[Array, Inputs, bool], tuple[Array, Gradient]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """One loss family."""

    name: str
    """Name used in files and on the command line."""
    formula: str
    """The equation in words that a person can check."""
    source: str
    """Where the form was proposed."""
    inputs: tuple[str, ...]
    """Inputs it needs: ``size total granularity activation fineness tokens width depth relative_width mlp_ratio decayed
    lr_halvings``."""
    parameters: tuple[str, ...]
    """Parameter names in the order of the covariance."""
    logs: frozenset[str]
    """Parameters that are fitted as logarithms."""
    references: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    """Amplitude to (its exponent, reference): the fitted amplitude stands at that reference of its variable."""
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Bounds of the fit in the shown units; a fit that ends on one is reported as unidentified."""
    evaluate: Evaluate
    """``(theta, inputs, want_gradient) -> (loss [nat/token], gradient of ln loss by theta)``."""

    def axes(self) -> tuple[str, ...]:
        """What each row of the covariance stands for."""
        names = []
        for name in self.parameters:
            at = f" at {self.references[name][1]:.0e}".replace("e+", "e") if name in self.references else ""
            names.append(f"ln {name}{at}" if name in self.logs else name)
        return tuple(names)

    def to_theta(self, parameters: Mapping[str, float]) -> Array:
        """Shown parameters to the vector that is fitted."""
        theta = []
        for name in self.parameters:
            value = float(np.log(parameters[name])) if name in self.logs else parameters[name]
            if name in self.references:
                exponent, reference = self.references[name]
                value -= parameters[exponent] * float(np.log(reference))
            theta.append(value)
        return np.array(theta)

    def from_theta(self, theta: Array) -> dict[str, float]:
        """The vector that is fitted to the shown parameters."""
        raw = dict(zip(self.parameters, (float(t) for t in theta), strict=True))
        shown = {}
        for name, value in raw.items():
            if name in self.references:
                exponent, reference = self.references[name]
                value += raw[exponent] * float(np.log(reference))
            shown[name] = float(np.exp(value)) if name in self.logs else value
        return shown


def _combine(terms: list[Array]) -> tuple[Array, list[Array]]:
    """Sum of terms, and each term's share of it."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total, [term / total for term in terms]


def _chinchilla(theta: Array, x: Inputs, gradient: bool) -> tuple[Array, Gradient]:
    ln_e, ln_a, ln_b, alpha, beta = theta
    ln_n, ln_d = np.log(x["size"] / 1e9), np.log(x["tokens"] / 1e10)
    terms = [
        np.full(np.shape(ln_n + ln_d), np.exp(ln_e)),
        np.exp(ln_a - alpha * ln_n),
        np.exp(ln_b - beta * ln_d),
    ]
    loss, (share_e, share_n, share_d) = _combine(terms)
    return loss, [share_e, share_n, share_d, -share_n * ln_n, -share_d * ln_d] if gradient else []


def _shape(theta: Array, x: Inputs, gradient: bool) -> tuple[Array, Gradient]:
    ln_e, ln_a, ln_b, alpha, beta, delta, kappa, ln_rho, gamma, lam = theta
    ln_m, ln_d = np.log(x["size"] / 1e8), np.log(x["tokens"] / 1e11)
    off = np.log(x["width"] / x["depth"]) - ln_rho
    bend = kappa * off * off
    decayed, halvings = x["decayed"], x["lr_halvings"]
    terms = [
        np.full(np.shape(ln_m + ln_d), np.exp(ln_e)),
        np.exp(ln_a - alpha * ln_m + bend - gamma * decayed),
        np.exp(ln_b + delta * ln_m - beta * ln_d + lam * halvings),
    ]
    loss, (share_e, share_n, share_d) = _combine(terms)
    if not gradient:
        return loss, []
    return loss, [
        share_e, share_n, share_d, -share_n * ln_m, -share_d * ln_d, share_d * ln_m, share_n * off * off,
        -2.0 * kappa * share_n * off, -share_n * decayed, share_d * halvings,
    ]  # fmt: skip


def _chinchilla_shape(theta: Array, x: Inputs, gradient: bool) -> tuple[Array, Gradient]:
    ln_e, ln_a, ln_b, alpha, beta, kappa, ln_rho, ln_typical = theta
    ln_n, ln_d = np.log(x["size"] / 1e9), np.log(x["tokens"] / 1e10)
    off = np.log(x["width"] / x["depth"]) - ln_rho
    usual = ln_typical - ln_rho
    bend = off * off - usual * usual
    terms = [
        np.full(np.shape(ln_n + ln_d), np.exp(ln_e)),
        np.exp(ln_a - alpha * ln_n + kappa * bend),
        np.exp(ln_b - beta * ln_d),
    ]
    loss, (share_e, share_n, share_d) = _combine(terms)
    if not gradient:
        return loss, []
    return loss, [
        share_e, share_n, share_d, -share_n * ln_n, -share_d * ln_d, share_n * bend,
        -2.0 * kappa * share_n * (off - usual), -2.0 * kappa * share_n * usual,
    ]  # fmt: skip


def _conditional(theta: Array, x: Inputs, gradient: bool) -> tuple[Array, Gradient]:
    base, slopes = _chinchilla(theta[:5], x, gradient)
    a0, a1, a2, b0, b1, b2, ln_u, ln_s = theta[5:]
    u, s = x["relative_width"], x["mlp_ratio"]
    here = (a0 + a1 * np.log(u) + a2 / u, b0 + b1 * np.log(s) + b2 / s)
    usual_u, usual_s = np.exp(ln_u), np.exp(ln_s)
    usual = (a0 + a1 * ln_u + a2 / usual_u, b0 + b1 * ln_s + b2 / usual_s)
    loss = base * (here[0] * here[1] / (usual[0] * usual[1]))
    if not gradient:
        return loss, []
    one = np.ones(np.shape(loss))
    return loss, [
        *(slope * one for slope in slopes),
        one / here[0] - 1.0 / usual[0], np.log(u) * one / here[0] - ln_u / usual[0],
        one / (u * here[0]) - 1.0 / (usual_u * usual[0]),
        one / here[1] - 1.0 / usual[1], np.log(s) * one / here[1] - ln_s / usual[1],
        one / (s * here[1]) - 1.0 / (usual_s * usual[1]),
        -one * (a1 - a2 / usual_u) / usual[0], -one * (b1 - b2 / usual_s) / usual[1],
    ]  # fmt: skip


def _routed(theta: Array, x: Inputs, gradient: bool) -> tuple[Array, Gradient]:
    ln_e, ln_a, ln_b, alpha, beta, delta, share = theta
    idle = np.log(x["total"] / x["size"])
    ln_n = np.log(x["size"] / 1e9) + share * idle + ln_cut(x["granularity"])
    ln_d = np.log(x["tokens"] / 1e10)
    terms = [
        np.full(np.shape(ln_n + ln_d), np.exp(ln_e)),
        np.exp(ln_a - alpha * ln_n),
        np.exp(ln_b + delta * ln_n - beta * ln_d),
    ]
    loss, (share_e, share_n, share_d) = _combine(terms)
    if not gradient:
        return loss, []
    return loss, [
        share_e, share_n, share_d, -share_n * ln_n, -share_d * ln_d, share_d * ln_n,
        (delta * share_d - alpha * share_n) * idle,
    ]  # fmt: skip


def _leveraged(theta: Array, x: Inputs, gradient: bool) -> tuple[Array, Gradient]:
    by = dict(zip(TIAN, theta[5:], strict=True))
    share, start, flops = x["activation"], by["start"], 6.0 * x["size"] * x["tokens"]
    grown = x["size"] * np.exp(ln_leverage(share, x["fineness"], flops, by))
    loss, slopes = _chinchilla(theta[:5], {**x, "size": grown}, gradient)
    if not gradient:
        return loss, []
    # The power is linear in its four coefficients; A's slope is the share of the size term.
    none = dict.fromkeys(by, 0.0)
    powers = [leverage_power(x["fineness"], flops, {**none, name: 1.0}) for name in TIAN if name != "start"]
    ln_share = np.log((share + start) / (1.0 + start))
    moved = leverage_power(x["fineness"], flops, by) * (1.0 / (share + start) - 1.0 / (1.0 + start))
    per_size = -theta[3] * slopes[1]
    return loss, [*slopes, *(per_size * power * ln_share for power in powers), per_size * moved]


def _overtrained(theta: Array, x: Inputs, gradient: bool) -> tuple[Array, Gradient]:
    ln_e, ln_a, ln_b, eta = theta
    loss, slopes = _chinchilla(np.array([ln_e, ln_a, ln_b, 2.0 * eta, 2.0 * eta]), x, gradient)
    return loss, [*slopes[:3], 2.0 * (slopes[3] + slopes[4])] if gradient else []


FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        Form(
            name="chinchilla",
            formula="L = E + A/N^alpha + B/D^beta",
            source="Hoffmann et al. 2022, arXiv 2203.15556, eq. 2",
            inputs=("size", "tokens"),
            parameters=("E", "A", "B", "alpha", "beta"),
            logs=frozenset({"E", "A", "B"}),
            references={"A": ("alpha", 1e9), "B": ("beta", 1e10)},
            bounds={"alpha": (0.01, 2.0), "beta": (0.01, 2.0)},
            evaluate=_chinchilla,
        ),
        Form(
            name="shape",
            formula=(
                "L = E + A (M/1e8)^-alpha exp(kappa ln(w/(rho l))^2 - gamma decayed)"
                " + B (M/1e8)^delta (D/1e11)^-beta exp(lam lr_halvings)"
            ),
            source=(
                "ours; a penalty in ln(width/depth) after Kaplan et al. 2020 (arXiv 2001.08361, fig. 5), "
                "a token term that grows with size after Li et al. 2025 (Farseer, arXiv 2506.10972)"
            ),
            inputs=("size", "tokens", "width", "depth", "decayed", "lr_halvings"),
            parameters=("E", "A", "B", "alpha", "beta", "delta", "kappa", "rho", "gamma", "lam"),
            logs=frozenset({"E", "A", "B", "rho"}),
            bounds={"alpha": (0.01, 2.0), "beta": (0.01, 2.0), "kappa": (0.0, 1.0), "rho": (1.0, 1000.0)},
            evaluate=_shape,
        ),
        Form(
            name="chinchilla_shape",
            formula="L = E + A/N^alpha exp(kappa [ln(w/(rho l))^2 - ln(typical/rho)^2]) + B/D^beta",
            source="ours: the size terms of `chinchilla`, the shape factor of `shape`",
            inputs=("size", "tokens", "width", "depth"),
            parameters=("E", "A", "B", "alpha", "beta", "kappa", "rho", "typical"),
            logs=frozenset({"E", "A", "B", "rho", "typical"}),
            references={"A": ("alpha", 1e9), "B": ("beta", 1e10)},
            bounds={"alpha": (0.01, 2.0), "beta": (0.01, 2.0), "kappa": (0.0, 1.0), "rho": (1.0, 1000.0)},
            evaluate=_chinchilla_shape,
        ),
        Form(
            name="conditional",
            formula=(
                "L = (E + A/N^alpha + B/D^beta) f(u, s)/f(usual u, usual s), f = (a0 + a1 ln u + a2/u)(b0 + b1 ln s + b2/s),"
                " u = width/sqrt(parameters inside the layers), s = MLP over attention parameters"
            ),
            source="Bian et al. 2025, arXiv 2510.18245, eq. 3, on the size and token terms of `chinchilla`",
            inputs=("size", "tokens", "relative_width", "mlp_ratio"),
            parameters=(
                "E",
                "A",
                "B",
                "alpha",
                "beta",
                "a0",
                "a1",
                "a2",
                "b0",
                "b1",
                "b2",
                "usual_width",
                "usual_mlp",
            ),
            logs=frozenset({"E", "A", "B", "usual_width", "usual_mlp"}),
            references={"A": ("alpha", 1e9), "B": ("beta", 1e10)},
            bounds={"alpha": (0.01, 2.0), "beta": (0.01, 2.0)},
            evaluate=_conditional,
        ),
        Form(
            name="routed",
            formula="L = E + A/M^alpha + B M^delta/D^beta, M = active (total/active)^share cut(G); A, B at 1e9, 1e10",
            source=(
                "ours: `chinchilla` with an effective size between active and total parameters, and the granularity of "
                "Krajewski et al. 2024 (arXiv 2402.07871)"
            ),
            inputs=("size", "total", "granularity", "tokens"),
            parameters=("E", "A", "B", "alpha", "beta", "delta", "share"),
            logs=frozenset({"E", "A", "B"}),
            bounds={"alpha": (0.01, 2.0), "beta": (0.01, 2.0), "share": (-1.0, 2.0)},
            evaluate=_routed,
        ),
        Form(
            name="leveraged",
            formula=(
                "L = E + A/(N EL)^alpha + B/D^beta, EL = ((share + start)/(1 + start))^(a + d log10 C + gamma (log2 G)^2 + "
                "beta_g log2 G), C = 6 N D"
            ),
            source="Tian et al. 2025, arXiv 2507.17702, eq. 13, on the size and token terms of `chinchilla`",
            inputs=("size", "activation", "fineness", "tokens"),
            parameters=("E", "A", "B", "alpha", "beta", "a", "d", "gamma", "beta_g", "start"),
            logs=frozenset({"E", "A", "B"}),
            references={"A": ("alpha", 1e9), "B": ("beta", 1e10)},
            bounds={"alpha": (0.01, 2.0), "beta": (0.01, 2.0)},
            evaluate=_leveraged,
        ),
        Form(
            name="overtrained",
            formula="L = E + A/N^(2 eta) + B/D^(2 eta), A and B at 1e9 and 1e10: a power of compute at each ratio D/N",
            source="Gadre et al. 2024, arXiv 2403.08540, eq. 4",
            inputs=("size", "tokens"),
            parameters=("E", "A", "B", "eta"),
            logs=frozenset({"E", "A", "B"}),
            bounds={"eta": (0.005, 1.0)},
            evaluate=_overtrained,
        ),
    )
}


def get_form(name: str) -> Form:
    """The family called ``name``.

    Raises:
        UnknownNameError: no family has that name.
    """
    if name not in FORMS:
        raise UnknownNameError("form", name, FORMS)
    return FORMS[name]
