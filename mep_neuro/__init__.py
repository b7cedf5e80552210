"""Train PyTorch models by equilibrium propagation on a substrate chosen by name.

    network = mep.EnergyNetwork.from_module(model)
    with mep.backend("torch", network, seed=0) as substrate:
        learner = mep.EquilibriumPropagation(substrate, beta=0.5)
        learner.estimate(x, y)

`estimate` fills each `p.grad`, so any torch optimizer steps from there.
"""

from importlib.metadata import version as _version

from mep_neuro.accounting import EnergyReport, Estimate, Sensitivity, account, ratio
from mep_neuro.accounting.measured import JoulesPerSample, MeasuredEnergy
from mep_neuro.accounting.measuring import EnergyMeter, measure
from mep_neuro.accounting.neurobench import neurobench_metrics
from mep_neuro.backend import Backend
from mep_neuro.capabilities import Availability, Capabilities
from mep_neuro.checkpoints import load_checkpoint
from mep_neuro.compare import ComparedRun, Comparison, compare
from mep_neuro.counts import OperationCounts
from mep_neuro.counts_file import read_counts, write_counts
from mep_neuro.deployment import deploy, target_names
from mep_neuro.history import EpochRecord, History
from mep_neuro.modules import Diodes, SignedInput, resistive_init_
from mep_neuro.network import EnergyNetwork, Population
from mep_neuro.nir_graphs import export_nir
from mep_neuro.nudging import Centered, Holomorphic, OneSided, RandomSign
from mep_neuro.optim import (
    AdamUpdate,
    BackpropGradient,
    CompositeOptimizer,
    DionUpdate,
    EPGradient,
    ErrorFeedback,
    GradientSource,
    MuonUpdate,
    NaturalUpdate,
    PlainUpdate,
    SpectralConstraint,
    Statistics,
    Update,
    local_ep,
    muon_backprop,
    natural_ep,
    sdmep,
    smep,
    smep_fast,
)
from mep_neuro.profiles import HardwareProfile, Price, Scenario, hardware_profile, profile_names
from mep_neuro.propagation import EquilibriumPropagation, Phases
from mep_neuro.registry import backend, backend_names
from mep_neuro.resistive import dissipated_power, kcl_residual
from mep_neuro.runs import RunSettings
from mep_neuro.target import Bundle, Target, Trained
from mep_neuro.training import fit
from mep_neuro.training_run import evaluate
from mep_neuro.types import Equilibrium, Nudge

__version__ = _version("mep-neuro")

__all__ = [
    "AdamUpdate",
    "Availability",
    "Backend",
    "BackpropGradient",
    "Bundle",
    "Capabilities",
    "Centered",
    "ComparedRun",
    "Comparison",
    "CompositeOptimizer",
    "Diodes",
    "DionUpdate",
    "EPGradient",
    "EnergyMeter",
    "EnergyNetwork",
    "EnergyReport",
    "EpochRecord",
    "Equilibrium",
    "EquilibriumPropagation",
    "ErrorFeedback",
    "Estimate",
    "GradientSource",
    "HardwareProfile",
    "History",
    "Holomorphic",
    "JoulesPerSample",
    "MeasuredEnergy",
    "MuonUpdate",
    "NaturalUpdate",
    "Nudge",
    "OneSided",
    "OperationCounts",
    "Phases",
    "PlainUpdate",
    "Population",
    "Price",
    "RandomSign",
    "RunSettings",
    "Scenario",
    "Sensitivity",
    "SignedInput",
    "SpectralConstraint",
    "Statistics",
    "Target",
    "Trained",
    "Update",
    "account",
    "backend",
    "backend_names",
    "compare",
    "deploy",
    "dissipated_power",
    "evaluate",
    "export_nir",
    "fit",
    "hardware_profile",
    "kcl_residual",
    "load_checkpoint",
    "local_ep",
    "measure",
    "muon_backprop",
    "natural_ep",
    "neurobench_metrics",
    "profile_names",
    "ratio",
    "read_counts",
    "resistive_init_",
    "sdmep",
    "smep",
    "smep_fast",
    "target_names",
    "write_counts",
]
