"""Exact, checked inverses of rectifier networks, and the experiments of the papers about them."""

from replication.certificates import Certificate, Verdict
from replication.networks import CausalFlow, LayerwiseNetwork, NetworkCertificate, NetworkSolution, RectifierNetwork
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
from replication.spanning import directed_spanning_test
from replication.stability import stability
from replication.units import (
    CausalConvUnit,
    InjectiveConvReLU,
    InjectiveReLU,
    Inverse,
    LipschitzConvUnit,
    MonotoneCausalConvUnit,
    MonotoneConvUnit,
    PairedReLU,
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
    "CausalFlow",
    "Certificate",
    "Chebyshev",
    "Exact",
    "InjectiveConvReLU",
    "InjectiveReLU",
    "Inverse",
    "Jacobi",
    "LayerwiseNetwork",
    "LipschitzConvUnit",
    "Modulus",
    "MonotoneCausalConvUnit",
    "MonotoneConvUnit",
    "NetworkCertificate",
    "NetworkSolution",
    "Newton",
    "NewtonCG",
    "NewtonSubstitution",
    "PairedReLU",
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
    "directed_spanning_test",
    "invert",
    "stability",
]
