"""S3RNet as of IGARSS 2025: the network alone, before distillation.

Paper: C.-M. Lee, Y.-C. Lin, L.-W. Kang, C.-C. Hsu, "S3RNet", IGARSS 2025 (arXiv:2501.07953).
No release of its own. A public review of the paper describes the four branches, the dense blocks and a weighting block
with an *independent sigmoid* score per branch. The later S3RNet release has two such fusers, its options 1 and 4; which
of them the paper used is not public:

    fusion="sigmoid"   free weights per branch and channel (default)
    fusion="concat"    weights per branch and pixel, from a 1x1 convolution over all branches

Everything else is the teacher of :mod:`methods.s3rnet`, whose parameter names it shares. Loss and schedule are ours.
"""

from __future__ import annotations

from methods.registry import MethodError, Recipe, register
from methods.s3rnet import MBFN, S3RNet
from methods.tasks import Supervised

FUSIONS = ("sigmoid", "concat")


@register(
    "s3rnet-igarss", "supervised",
    paper="Lee et al., S3RNet, IGARSS 2025",
    year=2025,
    fidelity="described",
    input_range=(-1.0, 1.0),
    recipes={"described": Recipe(task=Supervised, trains=("s3rnet-igarss",))},
    small={"width": 8, "depths": (1, 1, 1, 1)},
    note="teacher of S3RNet with independent sigmoid branch weights and no distillation; the paper's fuser and "
         "training are not public: plain L1 is ours",
)
def build(bands: int, msi_bands: int, ratio: int, depths: tuple[int, ...] = (6, 6, 4, 4), width: int = 86,
          growth: int | None = None, fusion: str = "sigmoid") -> S3RNet:
    """The four branches, ``depths`` of hm, mh, h, m, and their sigmoid ``fusion``."""
    if fusion not in FUSIONS:
        raise MethodError(f"s3rnet-igarss: fusion '{fusion}'; choices: {', '.join(FUSIONS)}")
    decoder = MBFN(bands, msi_bands, ratio, width, growth or width // 2, tuple(depths), h_groups=1, run_hm=True,
                   fusion=fusion, attention="release")
    return S3RNet(decoder, unused=())
