"""Python models of the clamped input, `fixed_pt` and `floating_pt`, and of the probe."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyOutPort, PyRefPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from mep_neuro_lava.processes.process import FREE, IDLE, NUDGED, PORTS, Clamp, Probe, following, phase_at


class ClampCycle(PyLoihiProcessModel):  # type: ignore[misc]  # Lava has no types
    """The input's cycle."""

    clock: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    phases: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    notes: Any = LavaPyType(np.ndarray, float)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.values = proc_params["values"]

    def run_spk(self) -> None:
        """One timestep."""
        clock, sent = int(self.clock[0]), np.zeros_like(self.x)
        if clock == 0:
            sent = self.x
        elif clock == self.phases[FREE] + self.phases[NUDGED] + 1:
            sent = self.values.payload(self.values.code(self.x.astype(np.float64))).astype(self.x.dtype)
        if clock != IDLE:
            self.notes[phase_at(clock, self.phases)] += np.count_nonzero(sent)
            self.clock[0] = following(clock, self.phases)
        self.s_out.send(sent)


@implements(proc=Clamp, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyClampFixed(ClampCycle):
    """Payloads as whole numbers."""

    s_out: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    x: Any = LavaPyType(np.ndarray, np.int32, precision=24)


@implements(proc=Clamp, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyClampFloat(ClampCycle):
    """Payloads as floating-point numbers."""

    s_out: Any = LavaPyType(PyOutPort.VEC_DENSE, float)
    x: Any = LavaPyType(np.ndarray, float)


class Errand(PyLoihiProcessModel):  # type: ignore[misc]  # Lava has no types
    """Does what the board orders, after the learning of a timestep."""

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.board = proc_params["board"]

    def post_guard(self) -> bool:
        """Whether something is to be done in this timestep."""
        return bool(self.board.due(self.time_step))

    def run_post_mgmt(self) -> None:
        """Read or write all connected weights."""
        refs = (getattr(self, f"ref_{port}") for port in range(PORTS))
        for ref, weights in zip(refs, self.board.weights, strict=False):
            if self.board.writing:
                ref.write(weights)
                ref.wait()
            else:
                weights[:] = ref.read()
        self.board.done()


@implements(proc=Probe, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyProbeFixed(Errand):
    """Mantissas."""

    ref_0: Any = LavaPyType(PyRefPort.VEC_DENSE, np.int32)
    ref_1: Any = LavaPyType(PyRefPort.VEC_DENSE, np.int32)
    ref_2: Any = LavaPyType(PyRefPort.VEC_DENSE, np.int32)
    ref_3: Any = LavaPyType(PyRefPort.VEC_DENSE, np.int32)
    ref_4: Any = LavaPyType(PyRefPort.VEC_DENSE, np.int32)
    ref_5: Any = LavaPyType(PyRefPort.VEC_DENSE, np.int32)
    ref_6: Any = LavaPyType(PyRefPort.VEC_DENSE, np.int32)
    ref_7: Any = LavaPyType(PyRefPort.VEC_DENSE, np.int32)


@implements(proc=Probe, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyProbeFloat(Errand):
    """Weights with their exponent."""

    ref_0: Any = LavaPyType(PyRefPort.VEC_DENSE, float)
    ref_1: Any = LavaPyType(PyRefPort.VEC_DENSE, float)
    ref_2: Any = LavaPyType(PyRefPort.VEC_DENSE, float)
    ref_3: Any = LavaPyType(PyRefPort.VEC_DENSE, float)
    ref_4: Any = LavaPyType(PyRefPort.VEC_DENSE, float)
    ref_5: Any = LavaPyType(PyRefPort.VEC_DENSE, float)
    ref_6: Any = LavaPyType(PyRefPort.VEC_DENSE, float)
    ref_7: Any = LavaPyType(PyRefPort.VEC_DENSE, float)
