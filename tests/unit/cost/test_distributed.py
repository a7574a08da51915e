"""Closed forms against the same schedules played message by message, and their volumes against the lower bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shapewright.cost.distributed import attention, exchange, pipeline, products, scan, synchronise
from shapewright.errors import UsageError

ALPHA, BETA = 3e-6, 1 / 50e9
SIZES = (2, 4, 8, 16, 64)


class Machine:
    """Devices that each compute one thing, send one message and receive one message at a time."""

    def __init__(self, devices: int, alpha: float = ALPHA, beta: float = BETA) -> None:
        self.alpha, self.beta = alpha, beta
        self.busy, self.sending, self.receiving, self.sent = (np.zeros(devices) for _ in range(4))

    def compute(self, device: int, seconds: float, ready: float = 0.0) -> float:
        self.busy[device] = max(self.busy[device], ready) + seconds
        return float(self.busy[device])

    def send(
        self,
        source: int,
        target: int,
        size: float,
        ready: float = 0.0,
        wire: tuple[float, float] | None = None,
    ) -> float:
        alpha, beta = wire or (self.alpha, self.beta)
        start = max(ready, self.sending[source], self.receiving[target])
        self.sending[source] = self.receiving[target] = start + alpha + beta * size
        self.sent[source] += size
        return float(start + alpha + beta * size)

    @property
    def end(self) -> float:
        return float(max(self.busy.max(), self.sending.max(), self.receiving.max()))


def _ring_attention(devices: int, work: float, kv: float, *, zigzag: bool, merge: float) -> Machine:
    """Every step each device works on the piece it has while the piece travels on."""
    machine = Machine(devices)
    block = 2 * work / devices**2
    arrived = [0.0] * devices
    for step in range(devices):
        for device in range(devices):
            piece = (device - step) % devices
            share = 0.5 if zigzag or piece == device else 1.0
            if zigzag or piece <= device:
                machine.compute(device, share * block + merge, arrived[device])
        if step < devices - 1:
            arrived = [
                machine.send((device - 1) % devices, device, kv / devices, arrived[(device - 1) % devices])
                for device in range(devices)
            ]
    return machine


@pytest.mark.parametrize("devices", SIZES)
@pytest.mark.parametrize("work", [1e-4, 3e-2, 1.0])
def test_ring_and_zigzag_attention_take_the_time_of_their_schedule(devices: int, work: float) -> None:
    kv, qo, merge = 64e6, 256e6, 2e-6
    for zigzag, form in ((False, attention.ring_attention), (True, attention.zigzag_attention)):
        machine = _ring_attention(devices, work, kv, zigzag=zigzag, merge=merge)
        found = form(work, kv, qo, devices, alpha=ALPHA, beta=BETA, merge_s=merge)
        assert float(found.seconds) == pytest.approx(machine.end, rel=1e-9)
        assert float(found.sent_bytes) == pytest.approx(machine.sent.max())
        assert float(found.compute_s) <= float(found.seconds) + 1e-12


def test_naive_ring_attention_runs_at_half_of_the_ideal_however_fast_the_wires() -> None:
    found = attention.ring_attention(1.0, 1.0, 1.0, 8, alpha=0.0, beta=0.0)
    assert 1 / 8 / float(found.seconds) == pytest.approx(8 / 15)


@pytest.mark.parametrize("devices", SIZES)
def test_gathered_attention_is_a_doubling_gather_and_an_even_share(devices: int) -> None:
    work, kv = 1e-2, 64e6
    machine, held = Machine(devices), [kv / devices] * devices
    ready = [0.0] * devices
    for level in range(int(np.log2(devices))):
        ready = [
            machine.send(i ^ 2**level, i, held[i ^ 2**level], ready[i ^ 2**level]) for i in range(devices)
        ]
        held = [size * 2 for size in held]
    for device in range(devices):
        machine.compute(device, work / devices, ready[device])
    found = attention.gathered_attention(work, kv, 4 * kv, devices, alpha=ALPHA, beta=BETA)
    assert float(found.seconds) == pytest.approx(machine.end)
    assert float(found.sent_bytes) == pytest.approx(machine.sent.max())


@pytest.mark.parametrize("devices", SIZES)
def test_decoding_by_tree_and_by_ring_take_the_time_of_their_schedule(devices: int) -> None:
    work, kv, partial = 1e-3, 64e6, 16e3
    machine = Machine(devices)
    ready = [machine.compute(i, work / devices) for i in range(devices)]
    levels = int(np.log2(devices))
    for level in range(levels):
        for i in range(0, devices, 2 ** (level + 1)):
            ready[i] = max(ready[i], machine.send(i + 2**level, i, partial, ready[i + 2**level]))
    for level in reversed(range(levels)):
        for i in range(0, devices, 2 ** (level + 1)):
            ready[i + 2**level] = machine.send(i, i + 2**level, partial, ready[i])
    tree = attention.tree_decode(work, kv, partial, devices, alpha=ALPHA, beta=BETA)
    assert float(tree.seconds) == pytest.approx(max(ready))
    assert float(tree.sent_bytes) == pytest.approx(machine.sent.max())
    machine, arrived = Machine(devices), [0.0] * devices
    for step in range(devices):
        for i in range(devices):
            machine.compute(i, work / devices, arrived[i])
        if step < devices - 1:
            arrived = [machine.send(i - 1, i, kv / devices, arrived[i - 1]) for i in range(devices)]
    ring = attention.ring_decode(work, kv, partial, devices, alpha=ALPHA, beta=BETA)
    assert float(ring.seconds) == pytest.approx(machine.end)


@pytest.mark.parametrize("devices", SIZES)
@pytest.mark.parametrize("overlap", [False, True])
def test_a_1d_product_takes_the_time_of_its_ring(devices: int, overlap: bool) -> None:
    n, rate = 4096.0, 4e14
    work, block = 2 * n**3 / (devices * rate), n * n / devices * 2
    machine, arrived = Machine(devices), [0.0] * devices
    for step in range(devices):
        done = [machine.compute(i, work / devices, arrived[i]) for i in range(devices)]
        if step < devices - 1:
            ready = arrived if overlap else done
            arrived = [machine.send(i - 1, i, block, ready[i - 1]) for i in range(devices)]
    found = products.product_1d(n, n, n, devices, alpha=ALPHA, beta=BETA, rate=rate, overlap=overlap)
    assert float(found.seconds) == pytest.approx(machine.end)
    assert float(found.sent_bytes) == pytest.approx(machine.sent.max())


def _layers(
    machine: Machine, layers: list[list[int]], size: float, ready: dict[int, float]
) -> dict[int, float]:
    """A ring gather (or scatter) of ``size`` per hop over each line of devices."""
    for line in layers:
        for _ in range(len(line) - 1):
            times = [machine.send(line[i - 1], line[i], size, ready[line[i - 1]]) for i in range(len(line))]
            ready |= dict(zip(line, times, strict=True))
    return ready


@pytest.mark.parametrize(("devices", "copies"), [(4, 1), (16, 1), (64, 1), (8, 2), (32, 2), (64, 4)])
def test_2d_and_25d_products_take_the_time_of_their_schedule(devices: int, copies: int) -> None:
    n, rate, side = 4096.0, 4e14, int(np.sqrt(devices / copies))
    block = n * n / devices * 2
    machine = Machine(devices)

    def at(i: int, j: int, layer: int) -> int:
        return (i % side * side + j % side) * copies + layer

    lines = [[at(i, j, layer) for layer in range(copies)] for i in range(side) for j in range(side)]
    ready = dict.fromkeys(range(devices), 0.0)
    for _ in range(2):
        ready = _layers(machine, lines, block, ready)
    steps = side // copies
    cells = [(i, j, layer) for layer in range(copies) for i in range(side) for j in range(side)]
    for step in range(steps):
        # The first shift skews rows and columns, each layer to its own start; later ones move by one.
        moved = dict(ready)
        for axis in (0, 1):
            for i, j, layer in cells:
                offset = 1 if step else (i, j)[axis] + layer * steps + side * (copies > 1)
                target = at(i, j - offset, layer) if axis == 0 else at(i - offset, j, layer)
                if target != at(i, j, layer) or copies > 1:
                    arrived = machine.send(at(i, j, layer), target, block * copies, ready[at(i, j, layer)])
                    moved[target] = max(moved[target], arrived)
        ready = {
            device: machine.compute(device, 2 * n**3 / (devices * rate * steps), moved[device])
            for device in ready
        }
    ready = _layers(machine, lines, block, ready)
    if copies == 1:
        found = products.product_2d(n, n, n, devices, alpha=ALPHA, beta=BETA, rate=rate)
    else:
        found = products.product_25d(n, n, n, devices, copies, alpha=ALPHA, beta=BETA, rate=rate)
    assert float(found.seconds) == pytest.approx(max(ready.values()))
    assert float(found.sent_bytes) == pytest.approx(machine.sent.max())


@pytest.mark.parametrize("side", [2, 3, 4])
def test_a_3d_product_takes_the_time_of_its_three_rings(side: int) -> None:
    n, rate, devices = 4096.0, 4e14, side**3
    machine, ready = Machine(devices), dict.fromkeys(range(side**3), 0.0)
    size = n * n / devices * 2
    grid = np.arange(devices).reshape(side, side, side)
    for axis in range(3):
        if axis == 2:
            ready = {d: machine.compute(d, 2 * n**3 / (devices * rate), ready[d]) for d in ready}
        lines = np.moveaxis(grid, axis, -1).reshape(-1, side).tolist()
        ready = _layers(machine, lines, size, ready)
    found = products.product_3d(n, n, n, devices, alpha=ALPHA, beta=BETA, rate=rate)
    assert float(found.seconds) == pytest.approx(max(ready.values()))
    assert float(found.sent_bytes) == pytest.approx(machine.sent.max())
    assert float(found.sent_bytes) == pytest.approx(float(found.bound_bytes))


@pytest.mark.parametrize("devices", SIZES)
def test_scans_by_chain_and_by_tree_take_the_time_of_their_schedule(devices: int) -> None:
    work, state, compose = 4e-2, 2e6, 1e-5
    local = work / devices
    machine = Machine(devices)
    ready = [machine.compute(i, scan.PREPASS * local) for i in range(devices)]
    arrived = ready[0]
    for i in range(1, devices):
        arrived = machine.send(i - 1, i, state, arrived) + compose
    chain = scan.state_passing(work, state, devices, alpha=ALPHA, beta=BETA, compose_s=compose)
    assert float(chain.seconds) == pytest.approx(arrived + local)
    machine = Machine(devices)
    ready = [machine.compute(i, scan.PREPASS * local) for i in range(devices)]
    reach = 1
    while reach < devices:
        times = {i: machine.send(i - reach, i, state, ready[i - reach]) for i in range(reach, devices)}
        ready = [machine.compute(i, compose, max(ready[i], times[i])) if i in times else ready[i]
                 for i in range(devices)]  # fmt: skip
        reach *= 2
    ready = [0.0, *(machine.send(i - 1, i, state, ready[i - 1]) for i in range(1, devices))]
    done = [machine.compute(i, local, ready[i]) for i in range(devices)]
    tree = scan.tree_scan(work, state, devices, alpha=ALPHA, beta=BETA, compose_s=compose)
    # The device before the last waits for the last round, whose result it hands on.
    assert float(tree.seconds) == pytest.approx(
        max(done), rel=2 * (ALPHA + BETA * state + compose) / max(done)
    )
    assert max(done) <= float(tree.seconds) * (1 + 1e-12)
    assert float(tree.sent_bytes) >= machine.sent.max()


@pytest.mark.parametrize("devices", SIZES)
def test_all_to_alls_take_the_time_of_their_schedule(devices: int) -> None:
    held = 8e6
    machine = Machine(devices)
    for shift in range(1, devices):
        for i in range(devices):
            machine.send(i, (i + shift) % devices, held / devices)
    flat = exchange.flat_exchange(held, devices, alpha=ALPHA, beta=BETA)
    assert float(flat.seconds) == pytest.approx(machine.end)
    assert float(flat.sent_bytes) == pytest.approx(machine.sent.max())
    node, inner, outer = min(devices, 8), (2e-6, 1 / 300e9), (15e-6, 1 / 50e9)
    machine, nodes = Machine(devices), devices // min(devices, 8)
    for shift in range(1, node):
        for i in range(devices):
            machine.send(i, i // node * node + (i + shift) % node, held / node, wire=inner)
    for shift in range(1, nodes):
        for i in range(devices):
            machine.send(i, (i + shift * node) % devices, held / nodes, wire=outer)
    found = exchange.hierarchical_exchange(held, devices, 8, inner=inner, outer=outer)
    assert float(found.seconds) == pytest.approx(machine.end)
    assert float(found.sent_bytes) == pytest.approx(machine.sent.max())


def _reduced(machine: Machine, devices: int, state: float, ready: list[float]) -> list[float]:
    """Recursive halving, then doubling."""
    sizes = [state / 2 ** (level + 1) for level in range(int(np.log2(devices)))]
    distances = [devices // 2 ** (level + 1) for level in range(len(sizes))]
    for size, far in (*zip(sizes, distances, strict=True), *reversed([*zip(sizes, distances, strict=True)])):
        ready = [machine.send(i ^ far, i, size, max(ready[i ^ far], ready[i])) for i in range(devices)]
    return ready


@pytest.mark.parametrize("devices", SIZES)
def test_synchronisation_takes_the_time_of_its_schedule(devices: int) -> None:
    state, step, every = 2e9, 0.1, 5
    machine = Machine(devices)
    ready = _reduced(machine, devices, state, [machine.compute(i, step) for i in range(devices)])
    form = synchronise.all_reduce(state, devices, alpha=ALPHA, beta=BETA, step_s=step)
    assert float(form.seconds) == pytest.approx(max(ready))
    assert float(form.sent_bytes) == pytest.approx(machine.sent.max())
    machine, ready = Machine(devices), [0.0] * devices
    for _ in range(2 * (devices - 1)):
        ready = [machine.send(i - 1, i, state / devices, ready[i - 1]) for i in range(devices)]
    form = synchronise.ring_all_reduce(state, devices, alpha=ALPHA, beta=BETA)
    assert float(form.seconds) == pytest.approx(max(ready))
    assert float(form.sent_bytes) == pytest.approx(machine.sent.max())
    machine, ready = Machine(devices), [0.0] * devices
    for _ in range(3):
        for _ in range(every):
            ready = [machine.compute(i, step, ready[i]) for i in range(devices)]
        ready = _reduced(machine, devices, state, ready)
    form = synchronise.diloco(state, devices, every, alpha=ALPHA, beta=BETA, step_s=step)
    assert float(form.seconds) == pytest.approx(max(ready) / (3 * every))
    assert float(form.sent_bytes) == pytest.approx(machine.sent.max() / (3 * every))
    machine, ready = Machine(devices), [0.0] * devices
    for outer in range(3):
        for _ in range(every):
            ready = [machine.compute(i, step, ready[i]) for i in range(devices)]
        # Pairs that differ in one bit; any perfect matching takes the same time.
        ready = [
            machine.send(i ^ (1 << outer % int(np.log2(devices))), i, state, ready[i]) for i in range(devices)
        ]
    form = synchronise.gossip(state, devices, every, alpha=ALPHA, beta=BETA, step_s=step)
    assert float(form.seconds) == pytest.approx(max(ready) / (3 * every))


@pytest.mark.parametrize("devices", [2, 4, 16])
def test_streaming_exchanges_hide_until_training_is_too_short(devices: int) -> None:
    state, every, parts, behind = 2e9, 20, 4, 3
    piece = float(synchronise.all_reduce(state / parts, devices, alpha=ALPHA, beta=BETA, step_s=0.0).seconds)
    for step in (piece, piece / 10):
        end = wire = 0.0
        for inner in range(every):
            end += step
            if inner % (every // parts) == 0:
                wire = end + piece
            elif inner % (every // parts) == behind:
                end = max(end, wire)
        form = synchronise.streaming_diloco(
            state, devices, every, parts, behind, alpha=ALPHA, beta=BETA, step_s=step
        )
        assert float(form.seconds) == pytest.approx(end / every)


@pytest.mark.parametrize("devices", [2, 4, 8, 32])
@pytest.mark.parametrize("size", [1e3, 1e8])
def test_a_flushed_pipeline_takes_the_time_of_its_schedule(devices: int, size: float) -> None:
    step, count = 1.0, 16
    machine, part = Machine(devices), step / (devices * count * 3)
    for direction, work in ((1, part), (-1, 2 * part)):
        order = range(devices)[::direction]
        floor = machine.busy.max()
        for _ in range(count):
            ready = floor
            for stage in order:
                ready = machine.compute(stage, work, ready)
                if 0 <= stage + direction < devices:
                    ready = machine.send(stage, stage + direction, size, ready)
    form = pipeline.synchronous_pipeline(step, size, devices, count, 64, alpha=ALPHA, beta=BETA)
    assert float(form.seconds) == pytest.approx(float(machine.busy.max()))
    assert float(form.sent_bytes) == pytest.approx(machine.sent.max())


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_an_asynchronous_pipeline_reaches_the_rate_of_its_slowest_part(devices: int) -> None:
    step, count = 1.0, 16
    stage = step / (devices * count)
    for size in (1e3, 2 * stage / BETA):
        machine, ends = Machine(devices), []
        for _ in range(60 * count):
            # Forward down and backward up; a stage works on both without waiting for the round trip of the others.
            for source in range(devices - 1):
                machine.send(source, source + 1, size)
                machine.send(source + 1, source, size)
            for device in range(devices):
                machine.compute(device, stage)
            ends.append(machine.end)
        form = pipeline.asynchronous_pipeline(step, size, devices, count, 64, alpha=ALPHA, beta=BETA)
        sends = 2 if devices > 2 else 1
        per_micro_batch = max(stage, sends * (ALPHA + BETA * size))
        assert float(form.seconds) == pytest.approx(count * per_micro_batch)
        assert float(machine.sent.max()) / 60 == pytest.approx(float(form.sent_bytes))
    assert float(pipeline.staleness(devices)) == devices - 1


_dims = st.integers(1, 64).map(lambda x: x * 64.0)


@settings(max_examples=200, deadline=None)
@given(m=_dims, n=_dims, k=_dims, side=st.integers(1, 16), copies=st.integers(1, 4))
def test_no_product_sends_less_than_the_bound(m: float, n: float, k: float, side: int, copies: int) -> None:
    wires = {"alpha": ALPHA, "beta": BETA, "rate": 1e14}
    forms = [products.product_2d(m, n, k, side**2, **wires), products.product_3d(m, n, k, side**3, **wires)]
    if side <= m:
        forms.append(products.product_1d(m, n, k, side, **wires))
    layers = copies * (side * copies) ** 2
    forms.append(products.product_25d(m, n, k, layers, copies, **wires))
    devices = [side**2, side**3, *([side] if side <= m else []), layers]
    for form, p in zip(forms, devices, strict=True):
        bound = float(products.products_bound(m, n, k, p, memory=form.held_bytes))
        assert float(form.sent_bytes) >= bound * (1 - 1e-9)
        assert float(form.over_bound) >= 1 - 1e-9
        assert float(form.seconds) >= float(form.compute_s) * (1 - 1e-9)


@settings(max_examples=200, deadline=None)
@given(
    kv=st.floats(1e3, 1e12), qo=st.floats(1e3, 1e12), state=st.floats(1.0, 1e9), devices=st.integers(1, 10**6),
    work=st.floats(1e-6, 1e3), every=st.integers(1, 1000),
)  # fmt: skip
def test_nothing_sends_less_than_the_bound(
    kv: float, qo: float, state: float, devices: int, work: float, every: int
) -> None:
    wires = {"alpha": ALPHA, "beta": BETA}
    forms = [
        attention.ring_attention(work, kv, qo, devices, **wires),
        attention.zigzag_attention(work, kv, qo, devices, **wires),
        attention.gathered_attention(work, kv, qo, devices, **wires),
        attention.tree_decode(work, kv, state, devices, **wires),
        attention.ring_decode(work, kv, state, devices, **wires),
        scan.state_passing(work, state, devices, **wires), scan.tree_scan(work, state, devices, **wires),
        exchange.flat_exchange(kv, devices, **wires),
        synchronise.all_reduce(kv, devices, step_s=work, **wires),
        synchronise.ring_all_reduce(kv, devices, **wires),
        synchronise.diloco(kv, devices, every, step_s=work, **wires),
        synchronise.streaming_diloco(kv, devices, every, 4, 2, step_s=work, **wires),
        synchronise.gossip(kv, devices, every, step_s=work, **wires),
        synchronise.compressed(kv, devices, 8.0, step_s=work, **wires),
        exchange.hierarchical_exchange(kv, devices * 8, 8, inner=(ALPHA, BETA), outer=(ALPHA, BETA)),
    ]  # fmt: skip
    for form in forms:
        assert float(form.sent_bytes) >= float(form.bound_bytes) * (1 - 1e-9), form.name
        assert float(form.seconds) >= float(form.compute_s) * (1 - 1e-9), form.name
    one = attention.ring_attention(work, kv, qo, 1, **wires)
    assert float(one.sent_bytes) == float(one.messages) == float(one.bound_bytes) == 0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: products.product_2d(64, 64, 64, 5, alpha=0, beta=0, rate=1), "nearest that works: 4"),
        (lambda: products.product_3d(64, 64, 64, 10, alpha=0, beta=0, rate=1), "nearest that works: 8"),
        (lambda: products.product_1d(64, 64, 64, 65, alpha=0, beta=0, rate=1), "nearest that works: 64"),
        (lambda: products.product_25d(64, 64, 64, 16, 4, alpha=0, beta=0, rate=1), "nearest that works: 2"),
        (lambda: attention.check_pieces(4096, 64), "nearest that works: 32"),
        (
            lambda: exchange.hierarchical_exchange(1, 12, 8, inner=(0, 0), outer=(0, 0)),
            "nearest that works: 16",
        ),
        (lambda: pipeline.synchronous_pipeline(1, 1, 64, 8, 32, alpha=0, beta=0), "nearest that works: 32"),
    ],
)
def test_a_split_finer_than_the_work_is_refused_with_the_nearest_that_works(call, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        call()
    assert says in str(caught.value)
