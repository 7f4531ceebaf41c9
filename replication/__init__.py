"""Exact, checked inverses of rectifier networks, and the experiments of the papers about them."""

from replication.certificates import Certificate, Verdict
from replication.networks import NetworkCertificate, NetworkSolution, RectifierNetwork
from replication.solvers import (
    Anderson,
    Auto,
    Banach,
    Chebyshev,
    Exact,
    Jacobi,
    Modulus,
    Newton,
    NewtonCG,
    NewtonSubstitution,
    Pivoting,
    Solution,
    Status,
    Substitution,
)
from replication.units import (
    CausalConvUnit,
    Inverse,
    LipschitzConvUnit,
    MonotoneCausalConvUnit,
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
    "CausalConvUnit",
    "Certificate",
    "Chebyshev",
    "Exact",
    "Inverse",
    "Jacobi",
    "LipschitzConvUnit",
    "Modulus",
    "MonotoneCausalConvUnit",
    "MonotoneConvUnit",
    "NetworkCertificate",
    "NetworkSolution",
    "Newton",
    "NewtonCG",
    "NewtonSubstitution",
    "Pivoting",
    "RectifierLinear",
    "RectifierNetwork",
    "ResidualUnit",
    "Solution",
    "StandardConvUnit",
    "Status",
    "Substitution",
    "Verdict",
    "as_unit",
    "invert",
]
