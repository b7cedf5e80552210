"""Pulsed devices: what a pulse does, how many pulses trains give, and what noise they add."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mep_neuro.errors import InputError, OptionError
from mep_neuro_analog import pulses as pulses_module
from mep_neuro_analog.pulse_models import DeviceSteps, Direction
from mep_neuro_analog.pulses import Pulsed, PulsedDevices
from mep_neuro_analog.specs import PulseSpec

EXPONENTIAL = (-0.5, -0.5, -1.18445, -0.081404, 5.0, 5.0)
SPREADS = {
    "step_spread": 0.3,
    "bound_spread": (0.2, 0.3),
    "slope_spread": 0.2,
    "up_down": 0.1,
    "up_down_spread": 0.05,
}
SPECS = {
    "constant": PulseSpec(0.01, bounds=(-0.8, 1.2)),
    "linear": PulseSpec(0.01, "linear", bounds=(-0.8, 1.2), slope=(0.4, 0.7)),
    "steep": PulseSpec(0.01, "linear", bounds=(-0.8, 1.2), slope=(1.5, 2.5)),
    "soft_bounds": PulseSpec(0.01, "soft_bounds", bounds=(-0.8, 1.2)),
    "coarse": PulseSpec(0.46, "soft_bounds"),
    "exponential": PulseSpec(0.005, "exponential", exponential=EXPONENTIAL),
    "cut": PulseSpec(0.01, "exponential", exponential=(1.0, 0.2, 0.3, 0.4, 2.0, 1.5)),
    "power": PulseSpec(0.01, "power", bounds=(-0.8, 1.2), exponent=(1.7, 0.6)),
}
STRAIGHT = ("constant", "linear", "steep", "soft_bounds", "coarse")
each_model = pytest.mark.parametrize("name", SPECS)
SHAPE = (5, 7)


def devices(spec: PulseSpec, shape: tuple[int, int] = SHAPE, seed: int = 0) -> PulsedDevices:
    return PulsedDevices(spec, shape, torch.Generator().manual_seed(seed), dtype=torch.float64)


def start(shape: tuple[int, int] = SHAPE) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.6 - 0.3


def written_out(steps: DeviceSteps, i: int, j: int, omega: float, direction: Direction) -> float:
    """One pulse to one device, cut to its bounds: the equations of PulseSpec in plain arithmetic."""
    spec, side = steps.spec, 0 if direction == "up" else 1
    high, low = float(steps.high[i, j]), float(steps.low[i, j])
    step = float((steps.up, steps.down)[side][i, j])
    if spec.model in ("linear", "soft_bounds"):
        slope, bound = ((steps.slope_up, high), (steps.slope_down, low))[side]
        step *= 1 - float(slope[i, j]) * omega / bound
    elif spec.model == "exponential":
        assert spec.exponential is not None
        a, b, *rest = spec.exponential
        z = 2 * a * omega / (high - low) + b
        step *= max(1 - rest[side] * math.exp((1, -1)[side] * rest[2 + side] * z), 0)
    elif spec.model == "power":
        step *= ((high - omega, omega - low)[side] / (high - low)) ** spec.exponent[side]
    return min(max(omega + (step, -step)[side], low), high)


def table(steps: DeviceSteps, omega: Tensor, directions: list[Direction]) -> Tensor:
    """omega after pulses, one by one."""
    omega = omega.clone()
    for i, j in itertools.product(*map(range, omega.shape)):
        value = float(omega[i, j])
        for direction in directions:
            value = written_out(steps, i, j, value, direction)
        omega[i, j] = value
    return omega


def pulse(array: PulsedDevices, omega: Tensor, direction: Direction, *, exact: bool) -> Tensor:
    """One pulse to each device: every line fires in the one slot."""
    above, below = (torch.ones(1, n, dtype=omega.dtype) for n in omega.shape)
    rate = array.spec.step if direction == "up" else -array.spec.step
    after = array.update(omega, above, below, rate, exact=exact)
    assert after.pulses == omega.numel()
    return after.hidden


@each_model
@pytest.mark.parametrize("exact", [False, True])
def test_fifty_pulses_up_and_down_are_the_model_s_to_1e_12(name: str, exact: bool) -> None:
    array = devices(replace(SPECS[name], **SPREADS))
    omega = array.steps.clip(start())
    way: list[Direction] = ["up"] * 50 + ["down"] * 50
    found = omega
    for direction in way:
        found = pulse(array, found, direction, exact=exact)
    expected = table(array.steps, omega, way)
    assert (found - expected).abs().max() < 1e-12
    assert (found - omega).abs().max() > 1e-3


@each_model
@pytest.mark.parametrize("direction", ["up", "down"])
def test_the_response_is_one_pulse(name: str, direction: Direction) -> None:
    array = devices(replace(SPECS[name], bounds=(-9.0, 9.0)))
    omega = start()
    expected = table(array.steps, omega, [direction]) - omega
    assert torch.allclose(array.response(omega, direction), expected, atol=1e-14)
    assert bool((expected > 0).all() if direction == "up" else (expected < 0).all())


@pytest.mark.parametrize("name", STRAIGHT)
@pytest.mark.parametrize("direction", ["up", "down"])
def test_many_pulses_at_once_are_as_many_one_by_one(name: str, direction: Direction) -> None:
    array = devices(replace(SPECS[name], **SPREADS))
    omega = array.steps.clip(start())
    delta = torch.full_like(omega, (1 if direction == "up" else -1) * 50 * array.spec.step)
    after = array.update_by(delta, omega)
    assert after.pulses == 50 * omega.numel()
    assert (after.hidden - table(array.steps, omega, [direction] * 50)).abs().max() < 1e-12


@pytest.mark.parametrize("name", ["exponential", "cut", "power"])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_curved_model_is_walked_to_a_percent_of_the_way(name: str, direction: Direction) -> None:
    array = devices(SPECS[name])
    omega = start()
    for number in (3, 30):
        delta = torch.full_like(omega, (1 if direction == "up" else -1) * number * array.spec.step)
        expected = table(array.steps, omega, [direction] * number)
        error = (array.update_by(delta, omega).hidden - expected).abs().max()
        assert error < 0.01 * (expected - omega).abs().max()


@each_model
def test_mixed_directions_are_first_order_in_the_step(name: str) -> None:
    """Straight models only: a curved one also has the error of its tangents, which is small and stays."""
    found = []
    for fine in (1, 4):
        spec = replace(SPECS[name], step=SPECS[name].step / fine)
        array, omega = devices(spec), start()
        number = torch.full_like(omega, 8.0 * fine)
        moved = array.steps.move(omega, 2 * number, number)
        expected = table(array.steps, omega, ["up", "down", "up"] * (8 * fine))
        found.append(float((array.steps.clip(moved.omega) - expected).abs().max()))
    assert found[0] < (0.1 if name == "coarse" else 0.01)
    assert found[1] < (max(found[0] / 2, 1e-12) if name in STRAIGHT else 1e-4)


@each_model
@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_no_device_leaves_its_bounds(name: str, noise: float) -> None:
    array = devices(replace(SPECS[name], **SPREADS, cycle_noise=noise))
    omega, generator = start(), torch.Generator().manual_seed(5)
    for size in (1, 30, 3000, -3000, 30, -1):
        delta = torch.randn(SHAPE, generator=generator, dtype=torch.float64) * 0.1 + size * array.spec.step
        omega = array.update_by(delta, omega).hidden
        assert bool((omega >= array.steps.low).all())
        assert bool((omega <= array.steps.high).all())


def test_up_down_makes_steps_uneven() -> None:
    array = devices(replace(SPECS["constant"], up_down=0.25))
    omega = torch.zeros(SHAPE, dtype=torch.float64)
    assert torch.allclose(array.response(omega, "up"), torch.full_like(omega, 0.0125))
    assert torch.allclose(array.response(omega, "down"), torch.full_like(omega, -0.0075))
    omega = pulse(array, pulse(array, omega, "up", exact=False), "down", exact=False)
    assert torch.allclose(omega, torch.full_like(omega, 0.005))


def test_devices_differ_as_the_spec_says() -> None:
    shape, n = (400, 500), 200_000
    spec = replace(SPECS["linear"], **{**SPREADS, "up_down_spread": 0.02})
    steps = devices(spec, shape).steps
    mean = (steps.up + steps.down) / 2
    for values, centre, spread in (
        (mean / 0.01, 1, 0.3),
        ((steps.up - steps.down) / (2 * mean), 0.1, 0.02),
        (steps.high / 1.2, 1, 0.3),
        (steps.low / -0.8, 1, 0.2),
        (steps.slope_up / 0.4, 1, 0.2),
        (steps.slope_down / 0.7, 1, 0.2),
    ):
        assert abs(float(values.mean()) - centre) < 5 * spread / math.sqrt(n) + 1e-3 * spread
        assert abs(float(values.std()) / spread - 1) < 0.01
    for one, other in itertools.combinations((mean, steps.high, steps.low, steps.slope_up, steps.slope_down), 2):
        assert abs(float(torch.corrcoef(torch.stack((one.flatten(), other.flatten())))[0, 1])) < 5 / math.sqrt(n)


def test_a_spread_beyond_all_turns_no_device_round() -> None:
    wide = replace(SPECS["soft_bounds"], step_spread=2.0, bound_spread=(2.0, 2.0), slope_spread=2.0, up_down_spread=2.0)
    steps = devices(wide, (100, 100)).steps
    for values in (steps.up, steps.down, steps.high, -steps.low, steps.slope_up, steps.slope_down):
        assert float(values.min()) >= 0
    folded = 2 * math.sqrt(2 / math.pi) * math.exp(-1 / 8) + math.erf(1 / math.sqrt(8))
    assert abs(float(steps.high.mean()) / (1.2 * folded) - 1) < 0.05


@each_model
@pytest.mark.parametrize("direction", ["up", "down"])
def test_noise_of_one_pulse_is_its_step_s(name: str, direction: Direction) -> None:
    spec = replace(SPECS[name], cycle_noise=0.2, bounds=(-9.0, 9.0))
    shape, n = (200, 200), 40_000
    omega = torch.full(shape, 0.2, dtype=torch.float64)
    array = devices(spec, shape)
    step = float(array.response(omega, direction)[0, 0])
    for exact in (False, True):
        moved = pulse(array, omega, direction, exact=exact) - omega
        assert abs(float(moved.mean()) - step) < 4.5 * 0.2 * abs(step) / math.sqrt(n)
        assert abs(float(moved.std()) / (0.2 * abs(step)) - 1) < 4.5 / math.sqrt(2 * n)


@each_model
@pytest.mark.parametrize("direction", ["up", "down"])
def test_noise_of_many_pulses_adds_up_as_one_by_one(name: str, direction: Direction) -> None:
    coarse = name == "coarse"
    spec = PulseSpec(0.2, "soft_bounds", cycle_noise=0.2) if coarse else replace(SPECS[name], cycle_noise=0.5)
    shape, n, number = (200, 200), 40_000, 3 if coarse else 20
    omega = torch.full(shape, 0.2, dtype=torch.float64)
    array, slow = devices(spec, shape), omega
    for _ in range(number):
        slow = pulse(array, slow, direction, exact=True)
    fast = array.update_by((1 if direction == "up" else -1) * torch.full_like(omega, number * spec.step), omega).hidden
    assert abs(float(fast.mean() - slow.mean())) < 0.1 * float(slow.std())
    assert abs(float(fast.std() / slow.std()) - 1) < 4.5 / math.sqrt(n) + (0.1 if coarse else 0.04)
    if spec.model == "constant":
        assert abs(float(fast.std()) / (0.5 * spec.step * math.sqrt(number)) - 1) < 4.5 / math.sqrt(2 * n)


def test_write_noise_is_read_and_not_held() -> None:
    spec = replace(SPECS["linear"], write_noise=2.0)
    shape = (100, 100)
    array, omega = devices(spec, shape), start((100, 100))
    above = torch.ones(1, 100, dtype=torch.float64)
    below = torch.cat((torch.ones(1, 50), torch.zeros(1, 50)), 1).double()
    before = omega + 0.5
    for exact in (False, True):
        after = array.update(omega, above, below, spec.step, apparent=before, exact=exact)
        quiet = devices(replace(spec, write_noise=0.0), shape).update(omega, above, below, spec.step)
        assert torch.allclose(after.hidden, quiet.hidden, rtol=0, atol=1e-15)
        assert torch.equal(quiet.apparent, quiet.hidden)
        noise = after.apparent - after.hidden
        assert torch.allclose(noise[:, 50:], torch.full((100, 50), 0.5, dtype=torch.float64), atol=1e-14)
        assert abs(float(noise[:, :50].mean())) < 5 * 0.02 / math.sqrt(5000)
        assert abs(float(noise[:, :50].std()) / 0.02 - 1) < 5 / math.sqrt(2 * 5000)


@pytest.mark.parametrize(("high", "low"), [(1.0, 0.005), (0.3, 0.02), (0.1, 0.1), (0.05, 0.01)])
def test_write_noise_after_long_trains_is_new_as_often_as_devices_are_pulsed(high: float, low: float) -> None:
    spec = PulseSpec(1e-4, write_noise=1.0)
    shape, batch = (60, 60), 32
    array = devices(spec, shape)
    above = torch.full((batch, 60), high, dtype=torch.float64)
    below = torch.full((batch, 60), low, dtype=torch.float64)
    above[:, 0] = below[:, 0] = 1.0
    omega = torch.zeros(shape, dtype=torch.float64)
    kept = []
    for _ in range(40):
        after = array.update(omega, above, below, 10 * spec.step, apparent=omega + 9)
        kept.append((after.apparent - after.hidden > 8)[1:, 1:].double().mean())
    none = (1 - high * low) ** (10 * batch)
    assert abs(float(torch.stack(kept).mean()) - none) < 0.03


def two_signs(batch: int, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    above, below = (torch.randn(batch, n, generator=generator, dtype=torch.float64) for n in shape)
    return above, below


def probabilities(above: Tensor, below: Tensor, rate: float, step: float) -> tuple[Tensor, Tensor, Tensor]:
    """Slots, q and p, worked out here once more: (batch,), (batch, outputs), (batch, inputs)."""
    slots, qs, ps = [], [], []
    for d, x in zip(above.tolist(), below.tolist(), strict=True):
        d_max, x_max = max(map(abs, d)), max(map(abs, x))
        k = abs(rate) * x_max * d_max / step
        bl = min(math.ceil(k), 31)
        size = math.sqrt(abs(rate) / (step * bl))
        qs.append([min(1.0, abs(v) * size * math.sqrt(x_max / d_max)) for v in d])
        ps.append([min(1.0, abs(v) * size * math.sqrt(d_max / x_max)) for v in x])
        slots.append(float(bl))
    return tuple(torch.tensor(v, dtype=torch.float64) for v in (slots, qs, ps))  # type: ignore[return-value]


def z_of_moments(samples: Tensor, mean: Tensor, variance: Tensor) -> tuple[float, float]:
    """Largest z-score of the samples' means and variances, (samples, ...)."""
    n, away = len(samples), samples - mean
    square = away.square()
    first = away.mean(0) / (variance / n).sqrt()
    second = (square.mean(0) - variance) / (square.var(0) / n).sqrt()
    return float(first.abs().max()), float(second.abs().max())


@pytest.mark.parametrize(
    ("batch", "k", "one_sign"),
    [(4, 0.6, False), (3, 25.0, False), (60, 2.8, False), (12, 18.0, False), (12, 18.0, True), (12, 60.0, False)],
    ids=["one", "few", "many", "long", "long one sign", "cut"],
)
def test_trains_have_the_mean_variance_and_covariance_of_their_law(batch: int, k: float, one_sign: bool) -> None:
    """Means and variances of 20 devices, 30 covariances, and the total, over 4000 updates."""
    spec, shape = PulseSpec(1e-5, bounds=(-1e3, 1e3)), (4, 5)
    above, below = two_signs(batch, shape)
    if one_sign:
        above, below = above.abs(), -below.abs()
    rate = k * spec.step / float((above.abs().amax(1) * below.abs().amax(1)).mean())
    slots, q, p = probabilities(above, below, rate, spec.step)
    array = devices(spec, shape)
    omega = torch.zeros(shape, dtype=torch.float64)
    after = [array.update(omega, above, below, rate) for _ in range(4000)]
    net = torch.stack([a.hidden for a in after]) / spec.step
    met = slots[:, None, None] * q[:, :, None] * p[:, None, :]
    mean = (met * above.sign()[:, :, None] * below.sign()[:, None, :]).sum(0)
    variance = (met * (1 - met / slots[:, None, None])).sum(0)
    assert max(z_of_moments(net, mean, variance)) < 4.5
    if k < 31:
        assert torch.allclose(mean, rate * above.T @ below / spec.step, rtol=0.3)

    away = net - mean
    both, sign = slots * q[:, 0], below.sign()
    for j, other in ((0, 1), (2, 4)):
        covariance = (both * (1 - q[:, 0]) * p[:, j] * p[:, other] * sign[:, j] * sign[:, other]).sum()
        product = away[:, 0, j] * away[:, 0, other]
        assert abs(float((product.mean() - covariance) / (product.var() / 4000).sqrt())) < 4.5
    independent = away[:, 0, 0] * away[:, 1, 1]
    assert abs(float(independent.mean() / (independent.var() / 4000).sqrt())) < 4.5

    rows, columns = q.sum(1), p.sum(1)
    v, w = (q * (1 - q)).sum(1), (p * (1 - p)).sum(1)
    total = torch.tensor([float(a.pulses) for a in after], dtype=torch.float64)
    spread = (slots * (v * w + v * columns.square() + w * rows.square())).sum() + (1 / 12 if batch > 4 else 0)
    assert max(z_of_moments(total, (slots * rows * columns).sum(), spread)) < 4.5


@pytest.mark.parametrize("name", SPECS)
def test_short_trains_give_the_oracle_s_pulses(name: str) -> None:
    """With one seed the default and the oracle draw the same trains; their responses differ to first order."""
    spec = replace(SPECS[name], step=SPECS[name].step / 100)
    above, below = two_signs(3, SHAPE)
    after = [devices(spec).update(start(), above, below, 2 * spec.step, exact=exact) for exact in (False, True)]
    assert after[0].pulses == after[1].pulses > 0
    assert torch.equal(after[0].number, after[1].number)
    assert torch.equal(after[0].net, after[1].net)
    way = (after[1].hidden - start()).abs().max()
    assert (after[0].hidden - after[1].hidden).abs().max() < 0.01 * way


@pytest.mark.parametrize("name", ["linear", "exponential", "power"])
def test_long_trains_move_weights_as_the_oracle_does(name: str) -> None:
    spec = replace(SPECS[name], step=0.001, cycle_noise=0.5, bounds=(-1.0, 1.0))
    shape, batch, rate = (3, 4), 10, 0.018
    generator = torch.Generator().manual_seed(3)
    above, below = (torch.rand(batch, n, generator=generator, dtype=torch.float64) for n in shape)
    above[:5] *= -1
    array, omega = devices(spec, shape), start(shape)
    fast = torch.stack([array.update(omega, above, below, rate).hidden for _ in range(2000)])
    slow = torch.stack([array.update(omega, above, below, rate, exact=True).hidden for _ in range(250)])
    error = ((slow.var(0) / 250) + (fast.var(0) / 2000)).sqrt()
    assert float(((fast.mean(0) - slow.mean(0)).abs() - 0.002).max() / error.max()) < 4.5
    ratio = (slow.var(0) / fast.var(0)).log().mean()
    assert abs(float(ratio)) < 4.5 * math.sqrt(2 / 250 / 12) + 0.05


def test_long_trains_have_the_noise_of_their_pulses() -> None:
    """Lines that fire in every slot: 200 pulses to each device, and nothing to draw but the noise of each."""
    spec, shape = PulseSpec(1e-4, cycle_noise=0.5), (100, 100)
    above, below = (torch.ones(10, n, dtype=torch.float64) for n in shape)
    after = devices(spec, shape).update(torch.zeros(shape, dtype=torch.float64), above, -below, 20 * spec.step)
    assert after.pulses == 200 * 10_000
    assert torch.equal(after.net, torch.full(shape, -200.0, dtype=torch.float64))
    deviation = 0.5 * math.sqrt(200)
    assert abs(float(after.hidden.mean()) / spec.step + 200) < 4.5 * deviation / 100
    assert abs(float(after.hidden.std()) / spec.step / deviation - 1) < 4.5 / math.sqrt(20_000)


def test_pulses_are_those_counted_by_hand() -> None:
    """Lines at their sample's maximum fire in every slot, lines at 0 in none; k = 2, 1, 31 (of 40) slots."""
    above = torch.tensor([[1.0, 0.0, -1.0], [0.5, 0.5, 0.0], [0.0, -4.0, 4.0]])
    below = torch.tensor([[2.0, 0.0], [2.0, -2.0], [10.0, 10.0]])
    spec = PulseSpec(0.01, bounds=(-1e3, 1e3))
    up = torch.tensor([[2 + 1, 0], [1, 0], [31, 31]])
    down = torch.tensor([[0, 1], [31, 1 + 31], [2, 0]])
    for exact in (False, True):
        array = PulsedDevices(spec, (3, 2), torch.Generator())
        after = array.update(torch.zeros(3, 2), above, below, 0.01, exact=exact)
        assert after.pulses == int((up + down).sum())
        assert torch.equal(after.number, (up + down).float())
        assert torch.equal(after.net, (up - down).float())
        assert torch.allclose(after.hidden, (up - down) * 0.01, atol=1e-5)


def test_the_oracle_s_count_is_the_sum_over_devices() -> None:
    above, below = two_signs(6, SHAPE)
    after = devices(SPECS["constant"]).update(start(), above, below, 0.05, exact=True)
    assert after.pulses == int(after.number.sum()) > 100
    assert bool((after.net.abs() <= after.number).all())


@pytest.mark.parametrize("batch", [2, 200])
def test_lines_that_are_zero_pulse_nothing(batch: int) -> None:
    spec = replace(SPECS["linear"], cycle_noise=1.0, write_noise=1.0)
    above, below = two_signs(batch, SHAPE)
    above[:, 1] = 0
    below[:, 2] = 0
    array, omega = devices(spec), start()
    after = array.update(omega, above, below, 0.2)
    assert not after.number[1].any()
    assert not after.number[:, 2].any()
    assert torch.equal(after.hidden[1], omega[1])
    assert torch.equal(after.hidden[:, 2], omega[:, 2])
    assert torch.equal(after.apparent[:, 2], omega[:, 2])
    for rate, one, other in ((0.0, above, below), (0.2, above * 0, below), (0.2, above, below * 0)):
        for exact in (False, True):
            nothing = array.update(omega, one, other, rate, exact=exact)
            assert nothing.pulses == 0
            assert torch.equal(nothing.hidden, omega)
            assert torch.equal(nothing.apparent, omega)
    assert array.update(omega, above[:0], below[:0], 0.2).pulses == 0


@pytest.mark.parametrize("batch", [2, 200])
def test_a_negative_rate_reverses(batch: int) -> None:
    above, below = two_signs(batch, SHAPE)
    omega = torch.zeros(SHAPE, dtype=torch.float64)
    after = [devices(SPECS["constant"]).update(omega, above, below, rate) for rate in (0.002, -0.002)]
    assert torch.equal(after[0].net, -after[1].net)
    assert after[0].pulses == after[1].pulses
    one_sign = [devices(SPECS["constant"]).update(omega, above.abs(), -below.abs(), rate) for rate in (0.002, -0.002)]
    assert torch.equal(one_sign[0].net, -one_sign[0].number)
    assert torch.equal(one_sign[1].net, one_sign[1].number)


def all_of(after: Pulsed) -> list[Tensor]:
    return [after.hidden, after.apparent, after.number, after.net, torch.tensor(after.pulses)]


@pytest.mark.parametrize("batch", [2, 200])
def test_the_same_seed_is_the_same_run(batch: int) -> None:
    spec = replace(SPECS["linear"], **SPREADS, cycle_noise=1.0, write_noise=1.0)
    above, below = two_signs(batch, SHAPE)
    runs = [all_of(devices(spec, seed=seed).update(start(), above, below, 0.01)) for seed in (4, 4, 5)]
    assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert not torch.equal(runs[0][0], runs[2][0])


@each_model
def test_rows_at_a_time_are_all_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for block in (1, 20, 10**6):
        monkeypatch.setattr(pulses_module, "BLOCK", block)
        delta = torch.full(SHAPE, -4 * SPECS[name].step, dtype=torch.float64)
        found.append(devices(replace(SPECS[name], **SPREADS)).update_by(delta, start()).hidden)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[1], found[2])


def test_a_given_change_is_met_on_average() -> None:
    spec = PulseSpec(0.01)
    array, omega = devices(spec, (100, 100)), torch.zeros(100, 100, dtype=torch.float64)
    for pulses in (0.3, -2.6):
        after = array.update_by(torch.full_like(omega, pulses * spec.step), omega)
        assert after.pulses == int(after.number.sum())
        assert set(after.number.unique().tolist()) <= {math.floor(abs(pulses)), math.ceil(abs(pulses))}
        chance = abs(pulses) % 1
        error = abs(float(after.hidden.mean()) / spec.step - pulses)
        assert error < 4.5 * math.sqrt(chance * (1 - chance) / 10_000)


def test_single_precision_keeps_up() -> None:
    for name, spec in SPECS.items():
        array = PulsedDevices(replace(spec, **SPREADS, cycle_noise=5.0, write_noise=5.0), (64, 64), torch.Generator())
        omega = torch.zeros(64, 64)
        for size in (1e-9, 1.0, 1e3):
            above, below = torch.randn(32, 64, generator=array.generator), torch.rand(32, 64)
            after = array.update(omega, above, below, size * spec.step)
            omega = after.hidden
            assert bool(torch.isfinite(after.apparent).all()), name
            assert omega.dtype == torch.float32


def test_program_and_verify_reaches_its_targets() -> None:
    ecram = PulseSpec(
        0.002, "linear", bounds=(-0.8276, 1.1724), slope=(0.1153, 0.5085), step_spread=0.1, cycle_noise=0.3
    )
    shape = (30, 40)
    target = start(shape) * 2
    found = devices(ecram, shape).program_and_verify(start(shape), target, 0.002, 2000)
    assert found.failed == 0
    assert float((found.apparent - target).abs().max()) <= 0.002
    way = float(((target - start(shape)).abs() - 0.002).clamp(min=0).sum())
    assert 0.8 * way / ecram.step < found.pulses < 2 * way / ecram.step
    assert found.reads >= 30 * 40
    there = devices(ecram, shape).program_and_verify(target, target, 0.002, 2000)
    assert (there.pulses, there.reads, there.failed) == (0, 30 * 40, 0)
    assert torch.equal(there.hidden, target)


def test_program_and_verify_reads_what_is_apparent() -> None:
    spec = PulseSpec(0.01, write_noise=3.0)
    found = devices(spec).program_and_verify(torch.zeros(SHAPE, dtype=torch.float64), start(), 0.01, 10_000)
    assert found.failed == 0
    assert float((found.apparent - start()).abs().max()) <= 0.01
    assert float((found.hidden - start()).abs().max()) > 0.01


def test_program_and_verify_reports_what_failed() -> None:
    stuck = PulseSpec(1e-9)
    zero = torch.zeros(SHAPE, dtype=torch.float64)
    target = zero.clone()
    target[0] = 0.5
    found = devices(stuck).program_and_verify(zero, target, 0.01, 100)
    assert found.failed == pytest.approx(1 / 5)
    assert found.pulses == 7 * 100
    assert found.reads == 5 * 7 + 7
    beyond = devices(SPECS["soft_bounds"]).program_and_verify(zero, zero + 2.0, 0.01, 1000)
    assert beyond.failed == 1
    assert float(beyond.hidden.max()) <= 1.2
    assert devices(stuck).program_and_verify(zero, target, 0.01, 0).pulses == 0


def test_what_cannot_be_used_is_refused() -> None:
    array, omega = devices(SPECS["linear"]), start()
    above, below = two_signs(3, SHAPE)
    for rate in (math.nan, math.inf):
        with pytest.raises(InputError, match="finite"):
            array.update(omega, above, below, rate)
    for bad in (math.nan, math.inf):
        with pytest.raises(InputError, match="infinite or NaN"):
            array.update(omega, above.index_fill(1, torch.tensor([0]), bad), below, 0.1)
        with pytest.raises(InputError, match="infinite or NaN"):
            array.update_by(torch.full(SHAPE, bad), omega)
        with pytest.raises(InputError, match="infinite or NaN"):
            array.program_and_verify(omega, torch.full(SHAPE, bad), 0.1, 10)
    for one, other in ((above[:2], below), (below, above), (above[0], below), (above[:, :-1], below)):
        with pytest.raises(InputError, match=r"give \(batch, 5\) and \(batch, 7\)"):
            array.update(omega, one, other, 0.1)
    with pytest.raises(InputError, match="omega"):
        array.update(omega[:3], above, below, 0.1)
    with pytest.raises(InputError, match="apparent"):
        array.update(omega, above, below, 0.1, apparent=omega[:3])
    with pytest.raises(InputError, match="delta"):
        array.update_by(omega[:3], omega)
    with pytest.raises(OptionError, match="'up' or 'down'"):
        array.response(omega, "sideways")  # type: ignore[arg-type]
    for tolerance, most in ((0.0, 10), (math.nan, 10), (0.1, -1)):
        with pytest.raises(OptionError, match=r"tolerance|max_pulses"):
            array.program_and_verify(omega, omega, tolerance, most)
    with pytest.raises(OptionError, match="shape"):
        PulsedDevices(SPECS["linear"], (0, 3), torch.Generator())
    with pytest.raises(OptionError, match="float32 or"):
        PulsedDevices(SPECS["linear"], (2, 3), torch.Generator(), dtype=torch.float16)
