"""Harvard: 50 outdoor and 27 indoor scenes, 1040 x 1392 pixels, 31 bands from 420 to 720 nm, one MATLAB file a scene.

Variable ``ref`` is the cube; the mask ``lbl``, of pixels without movement, is not used. Chakrabarti and Zickler, CVPR 2011.
"""

from functools import cached_property, partial
from pathlib import Path

import numpy as np
import scipy.io

from datasets.public import Published, Remote, Source, native
from datasets.scene import Miniature, Scene, SceneError, register
from datasets.splitting import content_digest, deal

_SITE = "https://vision.seas.harvard.edu/hyperspec/d2x5g3"
_PARTS = {"outdoor": "CZ_hsdb", "indoor": "CZ_hsdbi"}


@register("harvard")
class Harvard(Published):
    """Scenes of one part, by file name; dealt whole, so that no split shares a pixel with another.

    Args:
        root: the folder that holds the data set's; HSFUSION_DATA if not given.
        part: ``outdoor`` or ``indoor``, which are customarily kept apart.
        seed: another seed deals scenes to the splits in another way.
    """

    source = Source(tuple(Remote(f"{name}.tgz", f"{_SITE}/{name}.tgz") for name in _PARTS.values()), _SITE,
                    "non-commercial use", 7_500_000_000)

    def __init__(self, root: str | None = None, part: str = "outdoor", seed: int = 0) -> None:
        super().__init__(root)
        if part not in _PARTS:
            raise SceneError(f"dataset 'harvard': part '{part}'; choices: {', '.join(_PARTS)}")
        self.part, self.seed = part, seed

    @cached_property
    def paths(self) -> dict[str, Path]:
        """Scene name -> file.

        Raises:
            SceneError: the part is not there.
        """
        found = {path.stem: path for path in sorted((self.folder / _PARTS[self.part]).rglob("*.mat"))}
        if not found:
            raise self.missing(f"{_PARTS[self.part]}/*.mat")
        return found

    def splits(self) -> dict[str, list[str]]:
        """Whole scenes, dealt by the hash of their names."""
        return deal(list(self.paths), self.seed)

    def digest(self) -> str:
        """From names and sizes of the files and the splits. Not from bytes: they are gigabytes."""
        return content_digest([self.part, [[name, p.stat().st_size] for name, p in self.paths.items()], self.splits()])

    def read(self, base: str) -> Scene:
        """One scene.

        Raises:
            SceneError: unknown name, missing or unusable file.
        """
        if base not in self.paths:
            raise SceneError(f"dataset 'harvard', {self.part}, has no scene '{base}'; choices: {', '.join(self.paths)}")
        if not self.paths[base].is_file():
            raise self.missing(self.paths[base].name)
        cube, words = native(self.paths[base], np.arange(420.0, 721.0, 10.0))
        return Scene.from_native(base, cube, flight=base, **words)

    @classmethod
    def miniature(cls, folder: Path) -> Miniature:
        """Four scenes of 8 x 12 pixels a part."""
        rng, cubes = np.random.default_rng(0), {}
        for prefix, part in (("img", "CZ_hsdb"), ("imga", "CZ_hsdbi")):
            inner = folder / "harvard" / part / part
            inner.mkdir(parents=True)
            for i in range(1, 5):
                cube = rng.random((8, 12, 31))
                scipy.io.savemat(inner / f"{prefix}{i}.mat", {"ref": cube, "lbl": np.ones((8, 12))})
                cubes[f"{prefix}{i}"] = cube.transpose(2, 0, 1)
        return Miniature((partial(cls, str(folder)), partial(cls, str(folder), "indoor")), cubes)
