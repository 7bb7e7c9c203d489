"""Scenes by dataset name. The imports below are the one list of datasets: a new one adds its line here."""

from datasets import aviris, aviris_tiles, csakd_tiles, folder, other_sensors, synthetic
from datasets.scene import Scene, SceneError, get, names

__all__ = ["Scene", "SceneError", "aviris", "aviris_tiles", "csakd_tiles", "folder", "get", "names", "other_sensors",
           "synthetic"]
