"""Washington DC Mall: 191 of the 210 bands of HYDICE, which spans 400 to 2500 nm, in one TIFF file.

The site has no address of the file that we know of, so a person fetches it. Bands of the opaque atmosphere are left out, which
ones our sources do not say; so the centres are made evenly spaced over the span and are off by tens of nanometres in places.
A file ``<name>.wavelengths.csv`` beside the image replaces them.
"""

from datasets.one_image import OneImage, evenly
from datasets.public import Remote, Source
from datasets.scene import register


@register("washington-dc")
class WashingtonDc(OneImage):
    """One image."""

    source = Source(
        (Remote("dc.tif"),), "https://engineering.purdue.edu/~biehl/MultiSpec/hyperspectral.html",
        steps="open the page in a browser, download the Washington DC Mall image, and unpack it where it is an archive",
    )
    layout = pattern = "dc.tif"
    size = (1280, 307)
    wavelengths = evenly(400, 2500, 191)
