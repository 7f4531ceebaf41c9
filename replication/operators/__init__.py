"""The linear maps behind a rectifier unit: products, adjoints, matrices and norms, dense or convolutional.

`replication.resolvents` solves with them.
"""

from replication.operators.convolution import Convolution, adjoint_kernel
from replication.operators.dense import Dense, frobenius_norm, rounding_margin
from replication.operators.norms import convolution_norm_bound
from replication.operators.operator import MATRIX_NUMBERS, Operator, Weighted
from replication.operators.paddings import CORNERS, OPPOSITE, SYMMETRIC_PADDINGS, aligned_tap, check_padding
from replication.operators.products import Gram, Product, norm_estimate, norm_from_below

__all__ = [
    "CORNERS",
    "MATRIX_NUMBERS",
    "OPPOSITE",
    "SYMMETRIC_PADDINGS",
    "Convolution",
    "Dense",
    "Gram",
    "Operator",
    "Product",
    "Weighted",
    "adjoint_kernel",
    "aligned_tap",
    "check_padding",
    "convolution_norm_bound",
    "frobenius_norm",
    "norm_estimate",
    "norm_from_below",
    "rounding_margin",
]
