"""Exact, checked inverses of rectifier networks, and the experiments of the papers about them."""

from replication.certificates import Certificate, Verdict
from replication.networks import NetworkCertificate, NetworkSolution, RectifierNetwork
from replication.solvers import (
    Anderson,
    Auto,
    Banach,
    Chebyshev,
    Exact,
    Modulus,
    Newton,
    NewtonCG,
    Pivoting,
    Solution,
    Status,
)
from replication.units import (
    Inverse,
    LipschitzConvUnit,
    MonotoneConvUnit,
    RectifierLinear,
    ResidualUnit,
    StandardConvUnit,
    as_unit,
    invert,
)

__version__ = "0.1.0"

__all__ = [
    "Anderson",
    "Auto",
    "Banach",
    "Certificate",
    "Chebyshev",
    "Exact",
    "Inverse",
    "LipschitzConvUnit",
    "Modulus",
    "MonotoneConvUnit",
    "NetworkCertificate",
    "NetworkSolution",
    "Newton",
    "NewtonCG",
    "Pivoting",
    "RectifierLinear",
    "RectifierNetwork",
    "ResidualUnit",
    "Solution",
    "StandardConvUnit",
    "Status",
    "Verdict",
    "as_unit",
    "invert",
]
