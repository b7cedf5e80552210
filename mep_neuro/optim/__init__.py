"""The optimizer family: how a gradient is made, how it becomes an update, what bounds the weights, what is fed back."""

from mep_neuro.optim.adam import AdamUpdate
from mep_neuro.optim.composite import CompositeOptimizer, ErrorFeedback
from mep_neuro.optim.dion import DionUpdate
from mep_neuro.optim.factories import local_ep, muon_backprop, natural_ep, sdmep, smep, smep_fast
from mep_neuro.optim.gradients import BackpropGradient, EPGradient, GradientSource
from mep_neuro.optim.muon import MuonUpdate
from mep_neuro.optim.natural import NaturalUpdate
from mep_neuro.optim.spectral import SpectralConstraint
from mep_neuro.optim.update import PlainUpdate, Statistics, Update

__all__ = [
    "AdamUpdate",
    "BackpropGradient",
    "CompositeOptimizer",
    "DionUpdate",
    "EPGradient",
    "ErrorFeedback",
    "GradientSource",
    "MuonUpdate",
    "NaturalUpdate",
    "PlainUpdate",
    "SpectralConstraint",
    "Statistics",
    "Update",
    "local_ep",
    "muon_backprop",
    "natural_ep",
    "sdmep",
    "smep",
    "smep_fast",
]
