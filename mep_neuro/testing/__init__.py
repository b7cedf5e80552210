"""The conformance suite: the laws that every backend keeps, ours and strangers'.

    pytest -p mep_neuro.testing.plugin --pyargs mep_neuro.testing.conformance --mep-backend acme

L0 protocol, L1 dynamics, L2 learning, L3 a real task, L4 counts; `-k L1` runs one level. A law is a function of a
`Bench` that raises AssertionError where the backend breaks it; it reads the backend's capabilities and never its name.
What the laws allow is `capabilities.tolerance`. They compare with the energy's definition (`network.energy`, by
autograd in float64) and with plain backprop, never with another backend.

Besides what `Backend` says, the laws lean on this:

- A start, and a term of a contrast, may be any `Equilibrium` of the network's shapes, with `context=None`: its states
  count, and a context is nothing but a cache of them. A substrate that cannot take states from outside raises
  `CapabilityError`, and the law is reported as skipped.
- A substrate with noise (`deterministic=False`) is fed each sample 32 times in one batch, and means are looked at.
- A rate substrate with the options `max_steps` and `tolerance` is asked to settle fully by them.
"""

# each of these registers its laws
from mep_neuro.testing import counting, dynamics, gradients, learning, protocol, task, values  # noqa: F401
from mep_neuro.testing.bench import Bench as Bench
from mep_neuro.testing.law import LAWS as LAWS
from mep_neuro.testing.law import LEVELS as LEVELS
from mep_neuro.testing.law import Law as Law

__all__ = ["Bench", "LAWS", "LEVELS", "Law"]
