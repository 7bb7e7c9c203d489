"""The University of Houston campus as in the contests of the IEEE GRSS of 2013 and 2018: two CASI flights.

Layout, checksums and wavelengths: rs-fusion-datasets 1.0.0, whose tables of wavelengths are evenly spaced to
0.1 nm. Of the checksums, our sources give the first and the last digits.
"""

from datasets.one_image import OneImage, evenly
from datasets.public import Remote, Source
from datasets.scene import SceneError, register

_SITE = "https://machinelearning.ee.uh.edu"


@register("houston-2013")
class Houston2013(OneImage):
    """The image of 2013 at 2.5 m: 144 bands from 364 to 1046 nm."""

    source = Source((Remote("2013_DFTC.zip", f"{_SITE}/2egf4tg8hial13gt/2013_DFTC.zip", "sha256:f4d619d5*e245"),), _SITE)
    layout = "2013_DFTC/2013_DFTC/2013_IEEE_GRSS_DF_Contest_CASI.tif"
    pattern = "2013_IEEE_GRSS_DF_Contest_CASI.tif"
    size = (349, 1905)
    wavelengths = evenly(364.0, 1046.1, 144)


@register("houston-2018")
class Houston2018(OneImage):
    """The image of 2018 at 1 m: 48 bands from 374 to 1047 nm; the two after them in the file are no bands."""

    source = Source((Remote("phase2.zip", f"{_SITE}/QZ23es1aMPH/2018IEEE/phase2.zip", "sha256:aa6ae39b*"),), _SITE)
    layout = "phase2/2018IEEE_Contest/Phase2/FullHSIDataset/20170218_UH_CASI_S4_NAD83.tif"
    pattern = "20170218_UH_CASI_S4_NAD83.tif"
    size = (1202, 4172)
    wavelengths = evenly(374.4, 1047.1, 48)
    stored = 50

    def missing(self, what: str) -> SceneError:
        """Says how to convert the archive's PCIDSK file, where it is there."""
        found = next(self.folder.rglob("20170218_UH_CASI_S4_NAD83.pix"), None)
        if not found:
            return super().missing(what)
        return SceneError(f"{found}: a PCIDSK file, which must become a TIFF. Give the command `.venv/bin/rio convert {found} "
                          f"{found.with_suffix('.tif')}`.")
