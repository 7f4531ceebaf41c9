"""Proofs that a map folds: two inputs with the same output, from the signs of its Jacobian's determinants."""

from replication.folds.jacobians import Jacobians
from replication.folds.pairs import Pair
from replication.folds.search import FoldSearch, find_fold

__all__ = ["FoldSearch", "Jacobians", "Pair", "find_fold"]
