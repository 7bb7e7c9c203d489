"""Downloads from a server on this machine: resumed, checked, unpacked, and what is said of failures. No real site is asked."""

import errno
import hashlib
import io
import json
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections import namedtuple
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import requests

import datasets
import run_benchmark
from datasets import scene as scene_module
from datasets.aviris_bands import KEPT_172, centers_nm
from datasets.download import download, listing, published
from datasets.public import Published, Remote, Source
from datasets.scene import SceneError

ROOT = Path(__file__).parents[2]
CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Site:
    """Files by path, what was asked of them, and how the next answers fail."""

    def __init__(self):
        self.files, self.asked, self.tag, self.cut, self.ranges = {}, [], '"1"', None, True
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                site.asked.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
                content = site.files.get(self.path)
                if content is None:
                    return self.send_error(404)
                wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
                start = int(wanted[1]) if wanted and site.ranges and self.headers.get("If-Range") in (None, site.tag) else 0
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    return self.end_headers()
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                if site.tag:
                    self.send_header("ETag", site.tag)
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                self.wfile.write(content[start:][: site.cut])
                return None

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    site = Site()
    yield site
    site.server.shutdown()
    site.server.server_close()


@pytest.fixture
def offer(site, monkeypatch):
    """Register a data set ``tiny`` of files on the site; ``offer(name=content)`` or with a source of one's own."""
    monkeypatch.setattr(scene_module, "_DATASETS", dict(scene_module._DATASETS))

    def add(source=None, checksum="", **files):
        site.files |= {f"/{name.replace('__', '.')}": content for name, content in files.items()}
        remotes = tuple(Remote(path[1:], site.url + path, checksum) for path in site.files)

        class Tiny(Published):
            def splits(self):
                return {"train": ["a"], "val": ["b"], "test": ["c"]}

            def digest(self):
                return "0" * 64

            def read(self, base):
                raise self.missing(base)

        Tiny.source = source or Source(remotes, "http://page.invalid", "free")
        Tiny.name = "tiny"
        scene_module._DATASETS["tiny"] = Tiny
        return Tiny

    return add


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def record(root):
    return json.loads((root / "tiny" / "download.json").read_text())


def fails(root, *words):
    with pytest.raises(SceneError) as caught:
        download("tiny", root, lambda _: None)
    for word in words:
        assert word in str(caught.value), caught.value
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -------------------------------------------------------------------------------------------------------- what works


def test_a_file_comes_and_its_checksum_is_told(site, offer, tmp_path):
    offer(a__mat=CONTENT)
    said = []
    assert download("tiny", tmp_path, said.append) == tmp_path / "tiny"
    assert (tmp_path / "tiny" / "a.mat").read_bytes() == CONTENT and names(tmp_path / "tiny") == ["a.mat", "download.json"]
    assert record(tmp_path) == {"a.mat": {"url": f"{site.url}/a.mat", "sha256": SHA256, "bytes": len(CONTENT)}}
    assert len(said) == 1 and SHA256 in said[0] and "no checksum is published" in said[0] and "download.json" in said[0]


def test_a_second_call_asks_for_nothing(site, offer, tmp_path):
    offer(a__mat=CONTENT)
    download("tiny", tmp_path, lambda _: None)
    before, said = len(site.asked), []
    changed = (tmp_path / "tiny" / "a.mat").stat().st_mtime_ns
    download("tiny", tmp_path, said.append)
    assert len(site.asked) == before == 1 and said == [f"tiny: all files are there already, in {tmp_path / 'tiny'}"]
    assert (tmp_path / "tiny" / "a.mat").stat().st_mtime_ns == changed


def test_a_cut_connection_goes_on_where_it_was(site, offer, tmp_path):
    offer(a__mat=CONTENT)
    site.cut = 100_000
    fails(tmp_path, "cut off", "65.5 kB are kept", "same command", "a.mat")
    assert names(tmp_path / "tiny") == ["a.mat.part", "a.mat.part.tag"]
    assert any("begun" in line for line in listing(tmp_path))
    site.cut = None
    download("tiny", tmp_path, lambda _: None)
    assert site.asked[1:] == [("/a.mat", "bytes=65536-", '"1"')]
    assert (tmp_path / "tiny" / "a.mat").read_bytes() == CONTENT and names(tmp_path / "tiny") == ["a.mat", "download.json"]


def test_a_file_that_has_changed_meanwhile_is_not_glued(site, offer, tmp_path):
    offer(a__mat=CONTENT)
    site.cut = 100_000
    fails(tmp_path, "cut off")
    site.cut, site.tag, site.files["/a.mat"] = None, '"2"', CONTENT[::-1]
    download("tiny", tmp_path, lambda _: None)
    assert (tmp_path / "tiny" / "a.mat").read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("held", [CONTENT[:10], CONTENT, CONTENT + b"more"])
@pytest.mark.parametrize("ranges", [True, False])
def test_parts_of_any_length(site, offer, tmp_path, held, ranges):
    """Of a server without versions, or without ranges."""
    offer(a__mat=CONTENT)
    site.tag, site.ranges = "", ranges
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "a.mat.part").write_bytes(held)
    download("tiny", tmp_path, lambda _: None)
    assert (tmp_path / "tiny" / "a.mat").read_bytes() == CONTENT
    assert len(site.asked) == (2 if ranges and len(held) > len(CONTENT) else 1)  # what is complete is not sent again


def packed(kind, files):
    held = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(held, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(fileobj=held, mode="w:gz") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return held.getvalue()


@pytest.fixture(params=["of this Python", "before 3.11.4"])
def tar(request, monkeypatch):
    """Python's own filter of archives, and without it."""
    if request.param == "before 3.11.4":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)


@pytest.mark.filterwarnings("ignore:Python 3.14:DeprecationWarning")
@pytest.mark.parametrize("suffix", ["zip", "tgz", "tar.gz"])
def test_an_archive_is_unpacked_whole_and_fetched_again_if_files_are_gone(tar, site, offer, tmp_path, suffix):
    site.files[f"/x.{suffix}"] = packed(suffix, {"deep/a.txt": b"a", "b.txt": b"bb"})
    offer()
    download("tiny", tmp_path, lambda _: None)
    there = ["download.json", "x/b.txt", "x/deep/a.txt"]
    assert names(tmp_path / "tiny") == there and record(tmp_path)[f"x.{suffix}"]["files"] == 2
    assert [line.split()[2] for line in listing(tmp_path) if line.startswith("tiny")] == ["there"]
    (tmp_path / "tiny" / "x" / "b.txt").unlink()
    download("tiny", tmp_path, lambda _: None)
    assert names(tmp_path / "tiny") == there and len(site.asked) == 2


def test_an_archive_writes_nowhere_else(tar, site, offer, tmp_path):
    site.files["/x.tar.gz"] = packed("tar.gz", {"../../outside.txt": b"a"})
    offer()
    fails(tmp_path, "x.tar.gz: cannot be unpacked", "outside")
    assert not (tmp_path / "outside.txt").exists() and names(tmp_path / "tiny") == []


@pytest.mark.parametrize("checksum", [f"sha256:{SHA256}", f"sha256:{SHA256[:8]}*{SHA256[-4:]}",
                                      f"md5:{hashlib.md5(CONTENT).hexdigest()}"])
def test_a_right_checksum(offer, tmp_path, checksum):
    offer(checksum=checksum, a__mat=CONTENT)
    said = []
    download("tiny", tmp_path, said.append)
    assert "as published" in said[0] and ("as far as we know its digits" in said[0]) == ("*" in checksum)


# --------------------------------------------------------------------------------------------------- what is said else


@pytest.mark.parametrize("checksum", ["sha256:" + "0" * 64, f"sha256:{SHA256[:8]}*0000", "md5:" + "0" * 32])
def test_a_wrong_checksum_leaves_nothing(site, offer, tmp_path, checksum):
    offer(checksum=checksum, a__mat=CONTENT)
    kind, _, wanted = checksum.partition(":")
    fails(tmp_path, "a.mat", kind, wanted, hashlib.new(kind, CONTENT).hexdigest(), "published", "same command")
    assert names(tmp_path / "tiny") == []


def test_another_file_than_the_first_time_is_told(site, offer, tmp_path):
    offer(a__mat=CONTENT)
    download("tiny", tmp_path, lambda _: None)
    (tmp_path / "tiny" / "a.mat").unlink()
    site.files["/a.mat"] = CONTENT[::-1]
    fails(tmp_path, SHA256, "recorded in", "download.json", "delete the record")
    assert names(tmp_path / "tiny") == ["download.json"]
    site.files["/a.mat"] = CONTENT
    download("tiny", tmp_path, lambda _: None)


def test_404(site, offer, tmp_path):
    offer(a__mat=CONTENT)
    del site.files["/a.mat"]
    fails(tmp_path, f"{site.url}/a.mat: the server answers 404", "http://page.invalid", str(tmp_path / "tiny" / "a.mat"))
    assert names(tmp_path / "tiny") == []


def test_no_network(site, offer, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/a.mat"
    offer(Source((Remote("a.mat", url),), "http://page.invalid"))
    fails(tmp_path, f"{url}: no connection", "Check the network", str(tmp_path / "tiny" / "a.mat"))
    assert names(tmp_path / "tiny") == []


Usage = namedtuple("Usage", "total used free")


def test_what_the_disk_cannot_hold_is_not_begun(site, offer, tmp_path, monkeypatch):
    tiny = offer(a__mat=CONTENT)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 299_999))
    fails(tmp_path, "300 kB are needed and 300 kB are free", "--to DIR")  # told by the server
    assert names(tmp_path / "tiny") == []
    tiny.source = Source(tiny.source.remotes, "http://page.invalid", size=5_000_000_000)
    asked = len(site.asked)
    fails(tmp_path, "5 GB are needed", "--to DIR")  # declared: no need to ask
    assert len(site.asked) == asked == 1


def test_what_the_disk_cannot_hold_is_not_unpacked(site, offer, tmp_path, monkeypatch):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"0" * 100_000)
    site.files["/x.zip"] = held.getvalue()
    offer()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 50_000))
    fails(tmp_path, "100 kB are needed")
    assert names(tmp_path / "tiny") == ["x.zip"]


def test_a_full_disk_keeps_what_came(site, offer, tmp_path, monkeypatch):
    offer(a__mat=CONTENT)
    whole = requests.Response.iter_content

    def full(answer, size):
        yield next(whole(answer, 1000))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(requests.Response, "iter_content", full)
    fails(tmp_path, "the disk is full", "--to DIR", "same command")
    assert names(tmp_path / "tiny") == ["a.mat.part", "a.mat.part.tag"]
    monkeypatch.setattr(requests.Response, "iter_content", whole)
    download("tiny", tmp_path, lambda _: None)
    assert (tmp_path / "tiny" / "a.mat").read_bytes() == CONTENT


def test_a_full_disk_while_unpacking(site, offer, tmp_path, monkeypatch):
    site.files["/x.zip"] = packed("zip", {"a": b"0", "b": b"1"})
    offer()

    def full(archive, folder):
        folder.mkdir()
        (folder / "a").write_bytes(b"0")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "extractall", full)
        fails(tmp_path, "the disk is full")
    assert names(tmp_path / "tiny") == ["x.zip"]
    download("tiny", tmp_path, lambda _: None)
    assert names(tmp_path / "tiny") == ["download.json", "x/a", "x/b"] and len(site.asked) == 1


def test_a_page_instead_of_an_archive(site, offer, tmp_path):
    site.files["/x.zip"] = b"<html>please log in</html>"
    offer()
    fails(tmp_path, "x.zip: cannot be unpacked", "no archive", "deleted", "same command")
    assert names(tmp_path / "tiny") == []


def test_steps_by_hand_and_what_follows_them(site, offer, tmp_path):
    content = packed("zip", {"a.txt": b"a"})
    remote = Remote("x.zip", "", f"sha256:{hashlib.sha256(content).hexdigest()[:8]}*")
    offer(Source((remote,), "http://page.invalid", steps="register on the page and download x.zip"))
    where = f"Save x.zip in {tmp_path / 'tiny'}"
    fails(tmp_path, "'tiny'", "register on the page", "http://page.invalid", where, "same command")
    path = tmp_path / "tiny" / "x.zip"
    path.write_bytes(content + b"damaged")
    fails(tmp_path, "x.zip: sha256", "take it away and copy it again")
    assert path.is_file()
    path.write_bytes(content)
    download("tiny", tmp_path, lambda _: None)
    assert names(tmp_path / "tiny") == ["download.json", "x/a.txt"] and not site.asked


def test_a_record_that_is_none(offer, tmp_path):
    offer(a__mat=CONTENT)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "download.json").write_text("{")
    fails(tmp_path, "download.json: no JSON", "delete it")
    assert (tmp_path / "tiny" / "download.json").read_text() == "{" and names(tmp_path / "tiny") == ["download.json"]


# ------------------------------------------------------------------------------------------------------- the command


def test_command(site, offer, tmp_path, monkeypatch, capsys):
    offer(a__mat=CONTENT)
    monkeypatch.delenv("HSFUSION_DATA", raising=False)
    assert run_benchmark.main(["download", "tiny"]) == 2
    assert "--to DIR" in capsys.readouterr().err
    assert run_benchmark.main(["download", "tiny", "--to", str(tmp_path / "new" / "data")]) == 0
    assert f"export HSFUSION_DATA={tmp_path / 'new' / 'data'}" in capsys.readouterr().out
    monkeypatch.setenv("HSFUSION_DATA", str(tmp_path))
    assert run_benchmark.main(["download", "tiny"]) == 0 and (tmp_path / "tiny" / "a.mat").is_file()
    assert run_benchmark.main(["download", "tinny"]) == 2
    assert "Did you mean 'tiny'?" in capsys.readouterr().err
    assert run_benchmark.main(["download", "synthetic"]) == 2
    assert "nothing to download for 'synthetic'" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert run_benchmark.main(["download", "tiny", "--to", str(tmp_path / "file" / "x")]) == 2
    assert "Choose another with --to" in capsys.readouterr().err


def test_an_interrupted_command_keeps_what_came(site, offer, tmp_path, monkeypatch, capsys):
    offer(a__mat=CONTENT)
    whole = requests.Response.iter_content

    def stopped(answer, size):
        yield next(whole(answer, 1000))
        raise KeyboardInterrupt

    monkeypatch.setattr(requests.Response, "iter_content", stopped)
    assert run_benchmark.main(["download", "tiny", "--to", str(tmp_path)]) == 130
    assert "goes on from there" in capsys.readouterr().err
    assert names(tmp_path / "tiny") == ["a.mat.part", "a.mat.part.tag"]


def test_listing(offer, tmp_path, monkeypatch, capsys):
    offer(a__mat=CONTENT)
    monkeypatch.delenv("HSFUSION_DATA", raising=False)
    assert run_benchmark.main(["download"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(published()) and "no folder named" in lines[1]
    cave = next(line for line in lines if line.startswith("cave"))
    assert "406 MB" in cave and "no licence is granted" in cave
    monkeypatch.setenv("HSFUSION_DATA", str(tmp_path))
    run_benchmark.main(["download"])
    assert all("not there" in line for line in capsys.readouterr().out.splitlines()[1:])


def test_no_library_of_the_network_is_loaded_to_list():
    code = "import run_benchmark, sys; run_benchmark.main(['download']); print({'pooch', 'requests', 'PIL'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


# --------------------------------------------------------------------------------------------------------- flight lines


def write_line(folder, name, rows, cols, seed=0, outside=None, interleave="bil", no_data=None):
    cube = np.random.default_rng(seed).integers(1, 6000, (rows, cols, 224)).astype("<i2")
    if outside:
        cube[outside] = -9999 if no_data is None else no_data
    folder.mkdir(parents=True, exist_ok=True)
    order = {"bil": (0, 2, 1), "bip": (0, 1, 2)}[interleave]
    (folder / f"{name}_ort_img").write_bytes(cube.transpose(order).tobytes())
    (folder / f"{name}_ort_img.hdr").write_text(
        f"ENVI\nsamples = {cols}\nlines = {rows}\nbands = 224\ndata type = 2\ninterleave = {interleave}\nbyte order = 0\n"
        f"wavelength = {{{', '.join(f'{nm:.3f}' for nm in centers_nm())}}}\n"
        + (f"data ignore value = {no_data}\n" if no_data is not None else "")
    )
    return cube


def test_flight_lines_are_fetched_and_cut(site, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.aviris_lines.TILE", 20)
    folder = tmp_path / "aviris-lines"
    names_ = ["f060502t01p00r03", "f080611t01p00r06", "f100517t01p00r09"]
    put = write_line(folder / "own", names_[0], 45, 41, outside=(0, 0))
    write_line(folder / "own", names_[1], 20, 40, 1, outside=(5, 30), interleave="bip", no_data=0)
    write_line(tmp_path / "site", names_[2], 20, 40, 2)
    archive = packed("tar.gz", {path.name: path.read_bytes() for path in (tmp_path / "site").iterdir()})
    (folder / "lines.txt").write_text(f"{names_[0]}\n# notes\n{names_[1]}\n{site.url}/lines/{names_[2]}.tar.gz?key=1\n")
    site.files["/lines/f100517t01p00r09.tar.gz?key=1"] = archive
    said = []
    download("aviris-lines", tmp_path, said.append)
    assert [line.partition(" tiles")[0] for line in said[1:]] == [f"{names_[0]}: 3", f"{names_[1]}: 1", f"{names_[2]}: 2"]
    tiles = sorted(path.name for path in (folder / "tiles").iterdir())
    assert tiles == [f"{names_[0]}_{i}GT.npz.npy" for i in (1, 2, 3)] + [f"{names_[1]}_0GT.npz.npy"] + [
        f"{names_[2]}_{i}GT.npz.npy" for i in (0, 1)]
    kept = np.array(KEPT_172) - 1
    np.testing.assert_array_equal(np.load(folder / "tiles" / tiles[1]), put[20:40, :20][:, :, kept])
    dataset = datasets.get("aviris-lines", root=str(tmp_path))
    splits = dataset.splits()
    assert sorted(len(splits[split]) for split in ("train", "val", "test")) == [1, 2, 3]
    scene = dataset.scene(f"{names_[0]}_2")
    assert scene.flight == names_[0] and scene.band_numbers == KEPT_172
    asked, before = len(site.asked), {path: path.stat().st_mtime_ns for path in (folder / "tiles").iterdir()}
    download("aviris-lines", tmp_path, said.append)
    assert len(site.asked) == asked and before == {path: path.stat().st_mtime_ns for path in (folder / "tiles").iterdir()}


def test_wrong_lines_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.aviris_lines.TILE", 20)
    folder, get = tmp_path / "aviris-lines", partial(download, "aviris-lines", tmp_path, lambda _: None)
    with pytest.raises(SceneError, match=r"lines\.txt: no such list.*portal.*same command"):
        get()
    (folder / "lines.txt").write_text("f100517t01p00r09\n")
    with pytest.raises(SceneError, match=r"no ENVI header \*f100517t01p00r09\*\.hdr.*Put it there"):
        get()
    write_line(folder, "f100517t01p00r09", 19, 40)
    with pytest.raises(SceneError, match="no 20 x 20 pixels inside the line"):
        get()
    assert not list(folder.glob("tiles/*"))
    (folder / "lines.txt").write_text("what\n")
    with pytest.raises(SceneError, match=r"'what' in lines\.txt names no flight line"):
        get()
    with pytest.raises(SceneError, match="lists 'x'; choices: flight, authors"):
        datasets.get("aviris-lines", lists="x")


def test_nothing_here_asks_a_real_site():
    addresses = re.findall(r"https?://[\w.]+", Path(__file__).read_text())
    assert set(addresses) == {"http://127.0.0.1", "http://page.invalid"}
