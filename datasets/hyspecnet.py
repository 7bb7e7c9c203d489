"""HySpecNet-11k: 11,483 patches of 250 EnMAP images, 128 x 128 pixels at 30 m, 202 of the 224 bands, surface reflectance.

Fuchs and Demir, IGARSS 2023 (arXiv 2306.00385), who leave out bands 127-141 and 161-167. Layout: torchgeo 0.8.1. Centres of the
bands: www.enmap.org/data/doc/EnMAP_Spectral_Bands_update.xlsx, which holds defaults that vary from image to image. The two
spectrometers overlap at 902 to 993 nm, so a scene's bands are sorted by wavelength.
"""

from functools import cache, cached_property, partial
from pathlib import Path

import numpy as np

from datasets.io import read_all
from datasets.one_image import write_tiff
from datasets.public import Published, Remote, Source
from datasets.scene import SPLITS, Miniature, Scene, SceneError, register
from datasets.splitting import content_digest, read_list

KEPT = tuple(n for n in range(1, 225) if not (127 <= n <= 141 or 161 <= n <= 167))
_NO_DATA = -32768  # in EnMAP's products
_LISTS = ("hard", "easy")


@cache
def enmap_nm() -> np.ndarray:
    """(224,) band centres in nm, float64, read-only; 91 of the first spectrometer, 133 of the second."""
    centers = np.loadtxt(Path(__file__).with_name("enmap_bands.csv"), delimiter=",", skiprows=1)[:, 1].copy()
    centers.flags.writeable = False
    return centers


@register("hyspecnet-11k")
class HySpecNet(Published):
    """The patches, by the name of their folder; the EnMAP image is their flight.

    Args:
        root: the folder that holds the data set's; HSFUSION_DATA if not given.
        lists: ``hard``: whole images to train, val and test. ``easy``: the patches at random, so that the held-out split has
            neighbours of all it tests in the training and is called ``test-same-flight``.
    """

    source = Source(
        tuple(Remote(f"hyspecnet-11k-{part}.tar.gz") for part in (*(f"{n:02d}" for n in range(1, 11)), "splits")),
        "https://huggingface.co/datasets/torchgeo/hyspecnet", "CC0",
        steps="open the page in a browser and download its 11 archives",
    )

    def __init__(self, root: str | None = None, lists: str = "hard") -> None:
        super().__init__(root)
        if lists not in _LISTS:
            raise SceneError(f"dataset 'hyspecnet-11k': lists '{lists}'; choices: {', '.join(_LISTS)}")
        self.lists = lists

    @cached_property
    def listed(self) -> dict[str, dict[str, str]]:
        """Split -> patch -> its EnMAP image, as the authors' lists say: one line ``image/patch/patch-DATA.npy`` a patch."""
        lines = {split: [line.split("/") for line in self._list(split)] for split in SPLITS}
        return {split: {parts[-2]: parts[-3] for parts in each} for split, each in lines.items()}

    @cached_property
    def images(self) -> dict[str, Path]:
        """EnMAP image -> its folder of patches."""
        below = [patches for depth in ("patches", "*/patches", "*/*/patches") for patches in self.folder.glob(depth)]
        return {path.name: path for patches in below for path in sorted(patches.iterdir())}

    def splits(self) -> dict[str, list[str]]:
        """The authors' lists."""
        train, val, test = (list(self.listed[split]) for split in SPLITS)
        if self.lists == "hard":
            return {"train": train, "val": val, "test": test}
        return {"train": train, "val": val, "test": [], "test-same-flight": test}

    def digest(self) -> str:
        """From the lists and the sizes of the listed files. Not from bytes: they are too many."""
        sizes = [self.path(patch).stat().st_size for entries in self.listed.values() for patch in entries]
        return content_digest([sizes, self.splits()])

    def path(self, patch: str) -> Path:
        """The file of a patch.

        Raises:
            SceneError: not listed, or not there.
        """
        image = next((entries[patch] for entries in self.listed.values() if patch in entries), None)
        if image is None:
            lists = ", ".join(f"{split}.csv" for split in SPLITS)
            raise SceneError(f"dataset 'hyspecnet-11k' has no patch '{patch}'; choose one of splits/{self.lists}: {lists}")
        path = self.images.get(image, self.folder) / patch / f"{patch}-SPECTRAL_IMAGE.TIF"
        if not path.is_file():
            raise self.missing(path.name)
        return path

    def read(self, base: str) -> Scene:
        """One patch, its 202 bands in the order of wavelength.

        Raises:
            SceneError: unknown name, missing or unusable file.
        """
        path = self.path(base)
        stored, nm = read_all(path)["cube"], enmap_nm()  # with the bands of water vapour, which hold no data
        if len(stored) != len(nm):
            raise SceneError(f"{path}: {len(stored)} bands where a patch has {len(nm)}; copy it again")
        kept = np.array(KEPT) - 1
        kept = kept[np.argsort(nm[kept], kind="stable")]
        valid = (stored[kept] != _NO_DATA).all(0)
        if not valid.any():
            raise SceneError(f"{path}: no pixel holds data; take the patch out of splits/{self.lists}")
        flight = next(entries[base] for entries in self.listed.values() if base in entries)
        return Scene.from_native(base, stored[kept], nm[kept], valid, units="surface reflectance x 10000", flight=flight)

    def _list(self, split: str) -> list[str]:
        name = f"{split}.csv"
        found = [path for path in self.folder.glob(f"**/splits/{self.lists}/{name}") if path.is_file()]
        if not found:
            raise self.missing(f"splits/{self.lists}/{name}")
        lines = read_list(found[0])
        for line in lines:
            if line.count("/") < 2:
                raise SceneError(f"{found[0]}: the line '{line}' is no image/patch/file; copy the list again")
        return lines

    @classmethod
    def miniature(cls, folder: Path) -> Miniature:
        """Two patches of 6 x 8 pixels of each of four images."""
        rng, native, patches = np.random.default_rng(0), {}, []
        kept = np.array(KEPT) - 1
        kept = kept[np.argsort(enmap_nm()[kept], kind="stable")]
        data = folder / "hyspecnet-11k"
        for i in range(4):
            image = f"ENMAP01-____L2A-DT000000495{i}_20221103T162438Z_001_V010110_20221118T145147Z"
            for column in (1, 2):
                patch = f"{image}-Y0146027{column}_X05670694"
                inner = data / f"hyspecnet-11k-{i + 1:02d}" / "hyspecnet-11k" / "patches" / image / patch
                inner.mkdir(parents=True)
                cube = rng.integers(-100, 6000, (224, 6, 8)).astype(np.int16)
                cube[126:141] = _NO_DATA
                write_tiff(inner / f"{patch}-SPECTRAL_IMAGE.TIF", cube)
                native[patch] = cube[kept]
                patches.append(f"{image}/{patch}/{patch}-DATA.npy")
        hard = {"train": patches[:4], "val": patches[4:6], "test": patches[6:]}
        easy = {"train": patches[::2], "val": patches[1:5:2], "test": patches[5::2]}
        for lists, splits in (("hard", hard), ("easy", easy)):
            inner = data / "hyspecnet-11k-splits" / "hyspecnet-11k" / "splits" / lists
            inner.mkdir(parents=True)
            for split, lines in splits.items():
                (inner / f"{split}.csv").write_text("\n".join(lines) + "\n")
        return Miniature((partial(cls, str(folder)), partial(cls, str(folder), "easy")), native)
