"""The named studies, what ``--profile`` chooses from: importing a module registers what it holds.

What follows from a study's values (budget, sizes, arguments, data) is said by the page; labels hold what does not.
"""

# In the order in which they are listed.
# isort: off
from benchmark.studies import quick, leaderboard, degradations, training_free, s3rnet, ablations, subspace  # noqa: F401
# isort: on
from benchmark.studies.registry import STUDIES, load_file, register, study

__all__ = ["STUDIES", "load_file", "register", "study"]
