"""QRCODE: the group's public CO-guided DCSN, which is the published network without its shifted-window attention.

Paper: C.-H. Lin, C.-C. Hsu, S.-S. Young, C.-Y. Hsieh, S.-C. Tai, "QRCODE: Quasi-Residual Convex Deep Network for Fusing
Misaligned Hyperspectral and Multispectral Images", TGRS 2024.
Release: ming053l/HyFusion @ 71a11614dc6a7a24f0520c74364824e924c7d57c, ``FLOPs_test.py``, class ``COGuidedDCSN`` (MIT).
The published network itself has no public code: it adds a shifted-window attention module (SWAM), 2.4 M parameters at
HR by the difference of the counts.

A branch for the HSI, one for the MSI and one for the draft of a convex method (:mod:`methods.co_cnmf`):

    z = codfeat(conv(hsi branch + msi branch)),   HR-HSI = last(z + co branch(draft))

Notes on the release:

* Its drafts are precomputed files; here the caller brings one (``model(lr_hsi, hr_msi, draft)``), or ``co="co-cnmf"``
  computes it inside ``forward``, from the PSF and SRF that the method is told. Without a draft the branch adds nothing.
* It is built for ratio 4, as two upsamplings by 2; another even ratio changes the second one here.
* Its losses are not public: L1 is ours, and with SAM and BEBA (recipe ``"joint"``) what the group's S3RNet code has.
* Training noise falls on the draft where there is one, else on the LR-HSI; here always on the LR-HSI.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from methods import losses
from methods.co_cnmf import co_cnmf
from methods.registry import MethodError, Recipe, register
from methods.s3rnet import GRG  # the same block here and in the S3RNet release: MFA, three dense blocks
from methods.tasks import Supervised

CO = ("given", "co-cnmf", "none")


def conv3(inputs: int, outputs: int, groups: int = 1) -> nn.Conv2d:
    """3x3 convolution that keeps the size; ungrouped where the groups do not divide the channels."""
    groups = 1 if inputs % groups or outputs % groups else groups
    return nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups)


class QRCODE(nn.Module):
    """The network of the release, in its own value range [-1, 1]."""

    def __init__(self, bands: int, msi_bands: int, ratio: int, psf: Tensor | None, srf: Tensor | None,
                 phase: int | None, nf: int, gc: int, nb: int, groups: int, co: str) -> None:
        super().__init__()
        self.ratio, self.co, self.responses = ratio, co, (psf, srf, phase)
        # In training and tables no draft is given, so that nothing reaches this branch.
        self.unused = ("coconv1.", "cofeat.") if co == "given" else ()

        def stack(depth: int, width: int, growth: int, groups: int) -> nn.Sequential:
            return nn.Sequential(*(GRG(width, growth, groups) for _ in range(depth)))

        self.hsiconv1 = conv3(bands, 2 * nf, groups)
        self.hsifeat = stack(2, 2 * nf, gc // 2, groups)
        self.hsiconvlast = conv3(2 * nf, nf, groups)
        self.msiconv1 = conv3(msi_bands, nf // 2)
        self.msifeat = stack(2, nf // 2, 2 * gc, 1)
        self.msiconvlast = conv3(nf // 2, nf)
        self.conv_fuse = nn.Sequential(conv3(nf, bands, groups), nn.LeakyReLU(0.2))
        self.codconv1 = conv3(bands, nf, groups)
        self.codfeat = stack(nb, nf, gc, groups)
        if co != "none":
            self.coconv1 = conv3(bands, nf)
            self.cofeat = stack(2, nf, gc, groups)
        self.last = nn.Conv2d(nf, bands, 3, padding=1, bias=False)

    def draft(self, lr_hsi: Tensor, hr_msi: Tensor) -> Tensor:
        """CO-CNMF's estimate, (B, bands, H, W), in the network's range [-1, 1]."""
        psf, srf, phase = self.responses
        return 2 * co_cnmf((lr_hsi + 1) / 2, (hr_msi + 1) / 2, psf, srf, phase) - 1  # type: ignore[arg-type]

    def forward(self, lr_hsi: Tensor, hr_msi: Tensor, draft: Tensor | None = None) -> Tensor:
        """(B, bands, h, w), (B, msi_bands, H, W), draft (B, bands, H, W) if any -> (B, bands, H, W)."""
        if draft is None and self.co == "co-cnmf":
            draft = self.draft(lr_hsi, hr_msi)
        if draft is not None and self.co == "none":
            raise MethodError("qrcode: a draft is given to a network that was built without its branch; "
                              "build it with co='given'")
        hsi = F.interpolate(lrelu(self.hsiconv1(lr_hsi)), scale_factor=2)  # nearest; (B, 2 nf, 2 h, 2 w)
        hsi = F.interpolate(hsi + self.hsifeat(hsi), scale_factor=self.ratio // 2)  # (B, 2 nf, H, W)
        hsi = self.hsiconvlast(lrelu(hsi))  # (B, nf, H, W)
        msi = lrelu(self.msiconv1(hr_msi))  # (B, nf // 2, H, W)
        msi = self.msiconvlast(lrelu(msi + self.msifeat(msi)))  # (B, nf, H, W)
        z = lrelu(self.codconv1(self.conv_fuse(hsi + msi)))
        z = lrelu(z + self.codfeat(z))
        if draft is not None:
            c = lrelu(self.coconv1(draft))
            z = z + lrelu(c + self.cofeat(c))
        return self.last(z)


def lrelu(x: Tensor) -> Tensor:
    """The one activation of the network."""
    return F.leaky_relu(x, 0.2)


def joint_loss(estimate: Tensor, reference: Tensor) -> Tensor:
    """L1 + 0.1 SAM + 0.1 BEBA: what the flag ``joint_loss`` of the group's code stands for in their S3RNet."""
    spectral = losses.sam_release(estimate, reference) + losses.beba_release(estimate, reference)
    return losses.l1(estimate, reference) + 0.1 * spectral


class JointSupervised(Supervised):
    """One network and the joint loss."""

    loss = staticmethod(joint_loss)


# Defaults of the same repository's deleted training file; its losses are unknown.
recipe = partial(Recipe, trains=("qrcode",), optimizer="adam", lr=1e-4, schedule="cosine", epochs=900, batch=2, crop=128,
                 train_snr_db=35.0)


@register(
    "qrcode",
    "supervised",
    paper="Lin et al., QRCODE, TGRS 2024",
    year=2024,
    fidelity="release",
    source="ming053l/HyFusion@71a11614dc6a7a24f0520c74364824e924c7d57c",
    count_reason="the published network has an attention module that is not public, and takes a draft as third input",
    input_range=(-1.0, 1.0),
    recipes={"release": recipe(task=Supervised), "joint": recipe(task=JointSupervised)},
    small={"nf": 8, "gc": 4, "nb": 2},
    note="the group's public CO-guided DCSN: QRCODE without its attention module; runs without a draft unless "
         "co='co-cnmf'; its losses are not public, L1 is ours",
)
def _build(bands: int, msi_bands: int, ratio: int, psf: Tensor | None = None, srf: Tensor | None = None,
           phase: int | None = None, nf: int = 172, gc: int = 43, nb: int = 6, groups: int = 1,
           co: str = "given") -> QRCODE:
    """Build the network; ``nf=160, gc=40, groups=4`` is the release's light version."""
    if ratio % 2:
        raise MethodError(f"qrcode: ratio {ratio}; it upsamples by 2 and then by the rest: choose 2, 4 or 8")
    if co not in CO:
        raise MethodError(f"qrcode: co '{co}'; choices: {', '.join(CO)}")
    if co == "co-cnmf" and (psf is None or srf is None):
        raise MethodError("qrcode: co='co-cnmf' computes its draft from psf and srf, which were not told; "
                          "give both, or choose co='given' or 'none'")
    if nf % (2 * groups) or gc < 2 or gc % groups or gc // 2 % groups:
        raise MethodError(f"qrcode: width nf {nf} must be even, growth gc {gc} at least 2, and both they and gc // 2 "
                          f"multiples of the {groups} groups")
    return QRCODE(bands, msi_bands, ratio, psf, srf, phase, nf, gc, nb, groups, co)
