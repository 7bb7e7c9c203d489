"""MDAS: Augsburg from the air and from space. The reference is EnMAP-like, 242 bands at 10 m, made from HySpex by simulation.

With every sub-area come its EnMAP-like image at 30 m (``lrhsi``) and what Sentinel-2 saw of it at 10 m (``hrmsi4``, its bands
2, 3, 4 and 8), on the scale of the reference: a ratio of 3 across real sensors, which a protocol of that ratio with
``use_given`` and an ``hr_size`` of 360 reads. Hu et al., ESSD 15 (2023). Layout: torchgeo 0.8.1.

The centres of the 242 bands are not in our sources: made evenly spaced, 88 from 423 to 990 nm and 154 from 1000 to 2450 nm.
A file ``<name>.wavelengths.csv`` beside an image replaces them.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from datasets.io import read_native
from datasets.one_image import evenly, write_tiff
from datasets.public import Published, Remote, Source, native
from datasets.scene import Miniature, Scene, SceneError, register
from datasets.splitting import content_digest, file_digest

AREAS = ("sub_area_1", "sub_area_2", "sub_area_3")
SENTINEL_BANDS = [1, 2, 3, 7]  # of the 12 of the file, 0-based: bands 2, 3, 4 and 8 of the sensor, as its order is
_IMAGES = ("EeteS_EnMAP_10m", "EeteS_EnMAP_30m", "Sentinel_2")


@register("mdas")
class Mdas(Published):
    """The three sub-areas, 300 x 360 pixels each: one to train on, one to validate, one to test, all of one flight."""

    source = Source(
        (Remote("Augsburg_data_4_publication.zip", "", "md5:7b63c26e*8d5b"),), "https://huggingface.co/datasets/torchgeo/mdas",
        "CC-BY-SA", steps="open the page in a browser and download the zip file from it",
    )
    wavelengths = np.concatenate([evenly(423, 990, 88), evenly(1000, 2450, 154)])

    def splits(self) -> dict[str, list[str]]:
        """By sub-area. They do not touch, but one flight on one day saw all three."""
        return {"train": [AREAS[0]], "val": [AREAS[1]], "test": [], "test-same-flight": [AREAS[2]]}

    def digest(self) -> str:
        """From the bytes of the images, the splits and the wavelengths that are assumed."""
        files = [file_digest(self.image(kind, area)) for area in AREAS for kind in _IMAGES]
        return content_digest([files, self.splits(), self.wavelengths.round(3).tolist()])

    def image(self, kind: str, area: str) -> Path:
        """The file of one image of a sub-area."""
        return self.file(f"{kind}_{area.replace('area_', 'area')}.tif")

    def read(self, base: str) -> Scene:
        """One sub-area with its two observations.

        Raises:
            SceneError: unknown name, missing files, or observations that do not fit the reference.
        """
        if base not in AREAS:
            raise SceneError(f"dataset 'mdas' has no scene '{base}'; choices: {', '.join(AREAS)}")
        cube, words = native(self.image("EeteS_EnMAP_10m", base), self.wavelengths)
        scene = Scene.from_native(base, cube, units="reflectance x 10000", flight="mdas", **words)
        coarse, _ = native(self.image("EeteS_EnMAP_30m", base), self.wavelengths)
        sentinel, _ = read_native(self.image("Sentinel_2", base))
        if sentinel.shape != (12, *scene.size) or tuple(3 * n for n in coarse.shape[1:]) != scene.size:
            raise SceneError(f"{self.image('Sentinel_2', base)}: {sentinel.shape}, and {coarse.shape} at 30 m, do not fit the "
                             f"reference of {scene.size} pixels; copy the data set again")
        given = {"lrhsi": coarse, "hrmsi4": sentinel[SENTINEL_BANDS]}
        low, span = scene.native_min, scene.native_max - scene.native_min
        unit = {key: torch.from_numpy(((image - low) / span).astype(np.float32)) for key, image in given.items()}
        return replace(scene, given=unit)

    @classmethod
    def miniature(cls, folder: Path) -> Miniature:
        """Sub-areas of 12 x 15 pixels."""
        rng = np.random.default_rng(0)
        cubes: dict[str, np.ndarray] = {}
        for area in AREAS:
            inner = folder / "mdas" / "Augsburg_data_4_publication" / "Augsburg_data_4_publication" / area
            inner.mkdir(parents=True)
            for kind, shape in zip(_IMAGES, ((242, 12, 15), (242, 4, 5), (12, 12, 15))):
                image = rng.integers(300, 10000, shape).astype(np.uint16)
                write_tiff(inner / f"{kind}_{area.replace('area_', 'area')}.tif", image)
                cubes.setdefault(area, image)
        return Miniature((partial(cls, str(folder)),), cubes)
