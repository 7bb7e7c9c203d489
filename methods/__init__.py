"""The one list of methods: importing a module registers what it holds."""

from methods import (  # noqa: F401
    bicubic,
    cucanet,
    dhif_net,
    dsdcn,
    dual_unet,
    fusformer,
    fusionmamba,
    gsa,
    hyfusion,
    hyperrefiner,
    hypertransformer,
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
    u2net,
)
from methods.registry import available, card, create, fuse, load_release

__all__ = ["available", "card", "create", "fuse", "load_release"]
