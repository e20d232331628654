"""The distributions of a symbol, given the network's features."""

from nextpixel.heads.bernoulli import Bernoulli
from nextpixel.heads.categorical import AutoregressiveCategorical, Categorical
from nextpixel.heads.head import Head, heads, register
from nextpixel.heads.logistic_mixture import LogisticMixture

__all__ = ["AutoregressiveCategorical", "Bernoulli", "Categorical", "Head", "LogisticMixture", "heads", "register"]
