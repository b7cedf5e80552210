"""The account: what a sample costs in joules, estimated from counts and prices, or measured with a sensor."""

from mep_neuro.accounting.account import account, ratio
from mep_neuro.accounting.report import EnergyReport, Estimate, Sensitivity

__all__ = ["EnergyReport", "Estimate", "Sensitivity", "account", "ratio"]
