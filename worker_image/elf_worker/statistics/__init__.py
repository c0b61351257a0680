"""Statistics of a round as monoids: what homes did, combined on the way up with their gradients."""

from elf_worker.statistics.base import HomeObservation, MdcObservation, Statistic
from elf_worker.statistics.product import Product, StatisticError, built_in, load

__all__ = ["HomeObservation", "MdcObservation", "Product", "Statistic", "StatisticError", "built_in", "load"]
