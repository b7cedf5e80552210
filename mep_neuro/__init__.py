"""Train PyTorch models by equilibrium propagation on a substrate chosen by name.

    network = mep.EnergyNetwork.from_module(model)
    with mep.backend("torch", network, seed=0) as substrate:
        learner = mep.EquilibriumPropagation(substrate, beta=0.5)
        learner.estimate(x, y)          # fills p.grad: any torch optimizer steps from there
"""

from mep_neuro.backend import Backend as Backend
from mep_neuro.capabilities import Availability as Availability
from mep_neuro.capabilities import Capabilities as Capabilities
from mep_neuro.counts import OperationCounts as OperationCounts
from mep_neuro.network import EnergyNetwork as EnergyNetwork
from mep_neuro.nudging import Centered as Centered
from mep_neuro.nudging import Holomorphic as Holomorphic
from mep_neuro.nudging import OneSided as OneSided
from mep_neuro.nudging import RandomSign as RandomSign
from mep_neuro.propagation import EquilibriumPropagation as EquilibriumPropagation
from mep_neuro.registry import backend as backend
from mep_neuro.registry import backend_names as backend_names
from mep_neuro.types import Equilibrium as Equilibrium
from mep_neuro.types import Nudge as Nudge
