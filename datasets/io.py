"""Reading cubes: the one place that callers import from; how each format is read stands in ``datasets/files``.

read_cube("scene.mat") -> (bands, H, W) array of native values, {"wavelengths": (bands,) nanometres, ...}
"""

from datasets.files.arrays import NoCubeError, tell
from datasets.files.cubes import (
    READERS,
    SENSORS,
    cube_files,
    cube_shape,
    cube_size,
    data_root,
    georeference,
    read_all,
    read_cube,
    read_native,
    says_axes,
)

__all__ = ["READERS", "SENSORS", "NoCubeError", "cube_files", "cube_shape", "cube_size", "data_root", "georeference",
           "read_all", "read_cube", "read_native", "says_axes", "tell"]
