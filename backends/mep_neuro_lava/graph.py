"""Graph: a plan's Lava processes, made and connected.

    Clamp -> Dense -> EPNeuron -> Dense -> EPNeuron        upwards, M_l with plan.forward[l]
                      EPNeuron <- Dense <-                 downwards, M_l^T with plan.back[l]

The connections are Lava's own, LearningDense where the graph learns; there is one EPNeuron process a population.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from typing import Any, final

import numpy as np

from .kernels import Product
from .kernels.fixed import Ints
from .plan import Lesson, Plan, Traces
from .processes import (
    Clamp,
    Dense,
    EPNeuron,
    GradedSpikeCfg,
    LearningDense,
    Loihi3FLearningRule,
    Probe,
    SignMode,
)
from .processes.process import PORTS

SIGN_MODES = {"mixed": SignMode.MIXED, "excitatory": SignMode.EXCITATORY, "inhibitory": SignMode.INHIBITORY}
STEADY = 2**60
"""A time constant of traces: exp(-1/STEADY) is 1, so that they do not decay."""
SEED = 2
"""Of Lava's stochastic rounding, which it fixes itself."""
SILENT = "0 * x0 * x1 * y1 * y3"
"""A rule that changes nothing."""


@final
class Board:
    """Memory that the host and a probe share: the weights of some connections, and an order."""

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        sizes = [int(np.prod(shape)) for shape in shapes]
        cells = np.frombuffer(mmap.mmap(-1, 8 * (2 + sum(sizes))))
        self._order, ends = cells[:2], np.cumsum([2, *sizes])
        self.weights = [cells[a:b].reshape(shape) for a, b, shape in zip(ends[:-1], ends[1:], shapes, strict=True)]

    def shape(self, port: int) -> tuple[int, ...]:
        """Of a probe's port; one that is not connected has one place."""
        return self.weights[port].shape if port < len(self.weights) else (1,)

    def order(self, *, writing: bool, step: int) -> None:
        """Have the weights written, or read, after the timestep of that number, counted from 1."""
        self._order[:] = 2 if writing else 1, step

    def due(self, step: int) -> bool:
        """Whether an order is to be carried out in this timestep."""
        return bool(self._order[0] != 0 and step >= self._order[1])

    @property
    def writing(self) -> bool:
        """Whether the order is to write."""
        return bool(self._order[0] == 2)

    def done(self) -> None:
        """The order was carried out."""
        self._order[0] = 0


@final
class Graph:
    """The processes of a plan.

    traces: how states enter traces, in a graph that learns.
    exact:  whole numbers; else weights that bear their exponent.
    probed: whether probes reach the weights.
    """

    def __init__(self, plan: Plan, traces: Traces | None, *, exact: bool, probed: bool) -> None:
        self._plan, self._traces, self._exact = plan, traces, exact
        values, differences = (None, None) if traces is None else (traces.values, traces.differences)
        self.clamp = Clamp(units=plan.sizes[0], values=values and values[0], name="the inputs")
        self.neurons = [
            EPNeuron(
                neuron=neuron,
                level=level,
                last=level == len(plan.neurons),
                bias=bias,
                bits=plan.bits,
                values=values and values[level],
                differences=differences and differences[level - 1],
                name=f"population {level}",
            )
            for level, (neuron, bias) in enumerate(zip(plan.neurons, plan.biases, strict=True), 1)
        ]
        ends = [self.clamp, *self.neurons]
        self.up = [self._connection(level, ends[level], ends[level + 1], True) for level in range(len(self.neurons))]
        self.down = [self._connection(level, ends[level + 1], ends[level], False) for level in range(1, len(self.up))]
        self.boards: list[Board] = []
        self.probes = self._probes() if probed else []
        self._rules = [SILENT] * (len(self.up) + len(self.down))

    @property
    def processes(self) -> list[Any]:
        """All of them."""
        return [*self.neurons, self.clamp, *self.up, *self.down, *self.probes]

    @property
    def timed(self) -> list[Any]:
        """The clamp and each population: those that have a clock."""
        return [self.clamp, *self.neurons]

    def put(self, plan: Plan) -> None:
        """Lay a plan's weights on the boards, to be written."""
        self._plan = plan
        held = [weights for board in self.boards for weights in board.weights]
        levels = [(level, True) for level in range(len(self.up))] + [(level, False) for level in range(1, len(self.up))]
        for weights, (level, upwards) in zip(held, levels, strict=True):
            weights[:] = self._weights(level, upwards)

    def mantissas(self) -> tuple[Ints, ...]:
        """The weights upwards as they were read. Raises RuntimeError where those downwards are not the same."""
        held = [weights for board in self.boards for weights in board.weights]
        up, down = held[: len(self.up)], held[len(self.up) :]
        for level, (above, below) in enumerate(zip(up[1:], down, strict=True), 1):
            if not np.array_equal(above, below.T):
                raise RuntimeError(f"the weights of coupling {level} are not the same upwards and downwards")
        return tuple(weights.copy() for weights in up)

    def rewritten(self, lesson: Lesson) -> list[tuple[Any, str]]:
        """The connections whose rule is another than before, each with its new one."""
        assert self._traces is not None
        values, differences = self._traces.values, self._traces.differences
        rules = []
        for level, scales in enumerate(zip(lesson.by_mean, lesson.by_difference, strict=True)):
            rules.append(rule(scales, values[level].offset, differences[max(level, 1) - 1].offset))
        for level in range(1, len(self.up)):
            scales = lesson.by_difference[level], lesson.by_mean[level]
            rules.append(rule(scales, values[level + 1].offset, differences[level].offset))
        connections = [*self.up, *self.down]
        found = [(c, new) for c, new, old in zip(connections, rules, self._rules, strict=True) if new != old]
        self._rules = rules
        return found

    def _connection(self, level: int, source: Any, end: Any, upwards: bool) -> Any:
        synapses, exponent = self._plan.synapses[level], (self._plan.forward if upwards else self._plan.back)[level]
        arguments = {
            "weights": self._weights(level, upwards),
            "weight_exp": exponent,
            "num_message_bits": self._plan.payload_bits,
            "sign_mode": SIGN_MODES[synapses.sign_mode],
            "name": f"the connection from {source.name} to {end.name}",
        }
        if synapses.sign_mode == "mixed" and bool((synapses.mantissas % 2).any()):
            arguments["num_weight_bits"] = 9  # as Lava's learning engine leaves them: with 8 the last bit would go
        if self._traces is None:
            connection = Dense(**arguments)
        else:
            learning_rule = Loihi3FLearningRule(dw=SILENT, x1_tau=STEADY, t_epoch=1, rng_seed=SEED)
            learning_rule.y1_tau = learning_rule.y2_tau = learning_rule.y3_tau = STEADY
            arguments |= {"num_weight_bits": 9, "sign_mode": SignMode.MIXED}
            connection = LearningDense(
                **arguments, learning_rule=learning_rule, graded_spike_cfg=GradedSpikeCfg.OVERWRITE
            )
            for name in ("bap", "y1", "y2", "y3"):
                getattr(end, f"s_out_{name}").connect(getattr(connection, f"s_in_{name}"))
        source.s_out.connect(connection.s_in)
        connection.a_out.connect(end.a_in)
        return connection

    def _weights(self, level: int, upwards: bool) -> Any:
        mantissas = self._plan.synapses[level].mantissas
        mantissas = mantissas if upwards else np.ascontiguousarray(mantissas.T)
        if self._exact:
            return mantissas.astype(np.int32)
        return mantissas * 2.0 ** (self._plan.forward if upwards else self._plan.back)[level]

    def _probes(self) -> list[Any]:
        connections, probes = [*self.up, *self.down], list[Any]()
        for start in range(0, len(connections), PORTS):
            part = connections[start : start + PORTS]
            board = Board([connection.weights.shape for connection in part])
            probe = Probe(board=board, name=f"probe {len(probes) + 1}")
            for port, connection in enumerate(part):
                getattr(probe, f"ref_{port}").connect_var(connection.weights)
            self.boards.append(board)
            probes.append(probe)
        return probes


def rule(scales: tuple[Product | None, Product | None], mean: int, difference: int) -> str:
    """dw of a connection: x1 is a mean where y1 is sent, and a difference where y2 is. mean, difference: the constants
    that are added to x1."""
    terms = [
        f"{scale.mantissa} * 2^{scale.exponent} * x0 * {f'(x1 - {-offset})' if offset else 'x1'} * {y} * y3"
        for scale, offset, y in zip(scales, (mean, difference), ("y1", "y2"), strict=True)
        if scale is not None
    ]
    return " + ".join(terms) or SILENT
