"""What paper E4 claims, as far as its abstract and recalled facts go."""

from __future__ import annotations

from replication.experiments.studies.claims import Claim

CLAIMS: tuple[Claim, ...] = ()
