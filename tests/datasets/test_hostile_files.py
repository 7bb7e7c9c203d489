"""Files that ask for more than they hold, or for what is not theirs."""

import io
import time
import zipfile

import h5py
import numpy as np
import pytest

from datasets.io import read_native
from datasets.scene import SceneError


def test_an_array_that_memory_cannot_hold_is_refused_before_it_is_taken(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_2_0(header, {"descr": "<f4", "fortran_order": False, "shape": (100_000, 100_000, 300)})
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cube.npy", header.getvalue() + bytes(10_000_000))
    with pytest.raises(SceneError, match=r"100000x100000x300, 12000.0 GB.*available"):
        read_native(tmp_path / "bomb.npz")


@pytest.mark.parametrize("suffix", ["h5", "mat"])
def test_values_in_other_files_are_refused(tmp_path, suffix):
    secret = tmp_path / "secret"
    secret.write_bytes(b"words that are nobody's business" * 100)
    path = tmp_path / f"cube.{suffix}"
    with h5py.File(path, "w") as file:
        file.create_dataset("cube", (8, 10, 10), dtype="u1", external=[(str(secret), 0, 800)])
    with pytest.raises(SceneError, match=r"'/cube' lie in other files.*external"):
        read_native(path)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["cube"] = np.ones((8, 10, 10))
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout((8, 10, 10), "f8")
        layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "cube", (8, 10, 10))
        file.create_virtual_dataset("cube", layout)
    with pytest.raises(SceneError, match="virtual"):
        read_native(path)


def test_a_header_of_blanks_takes_no_time(tmp_path):
    np.ones((3, 4, 5), "f4").tofile(tmp_path / "a.dat")
    lines = ["ENVI", "samples = 5", "lines = 4", "bands = 3", "data type = 4", "interleave = bsq", "byte order = 0",
             " " * 40_000, "header offset = 0", "x" + " " * 40_000 + "=", "wavelength = {500, 600, 700}"]
    (tmp_path / "a.hdr").write_text("\n".join(lines) + "\n")
    begin = time.perf_counter()
    assert read_native(tmp_path / "a.hdr")[0].shape == (3, 4, 5)
    assert time.perf_counter() - begin < 5
