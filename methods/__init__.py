"""The one list of methods: importing a module registers what it holds."""

from methods import (  # noqa: F401
    bicubic,
    cnmf,
    cucanet,
    dhif_net,
    dsdcn,
    dual_unet,
    fuse_sylvester,
    fusformer,
    fusionmamba,
    gfpca,
    gsa,
    hyfusion,
    hyperrefiner,
    hypersharpening,
    hypertransformer,
    hysure,
    lanaras,
    mssjfl,
    psdnet,
    psdnet_oracle,
    pzres_net,
    qrcode,
    s2bnet,
    s3rnet,
    s3rnet_igarss,
    ssdiff,
    sspsr,
    ssuf,
    tensor_prior,
    u2mdn,
    u2net,
    usdn,
)
from methods.registry import available, card, create, fuse, load_release

__all__ = ["available", "card", "create", "fuse", "load_release"]
