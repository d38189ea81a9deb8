import gzip
import http.server
import io
import os
import tarfile
import threading
import tracemalloc
from contextlib import contextmanager
from functools import partial
from hashlib import md5

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.workloads.data.augmentation import augment
from calibration.workloads.data.datasets import Dataset, data_folder, load
from calibration.workloads.data.fetch import fetch_file, unpack_files
from calibration.workloads.data.files import read_cifar, read_idx
from calibration.workloads.data.splits import split
from kdsim.errors import DataError


def made_up(pool=60, classes=3, test=12):
    rng = np.random.default_rng(0)
    return Dataset(
        "made-up",
        rng.integers(0, 256, (pool, 1, 6, 5), dtype=np.uint8),
        np.arange(pool, dtype=np.int64) % classes,
        rng.integers(0, 256, (test, 1, 6, 5), dtype=np.uint8),
        np.arange(test, dtype=np.int64) % classes,
        classes,
    )


def idx_bytes(array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()


def write_fashion_mnist(folder, images=20):
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.arange(images * 28 * 28, dtype=np.uint8).reshape(images, 28, 28)
    labels = (np.arange(images) % 10).astype(np.uint8)
    for stem in ("train", "t10k"):
        (raw / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(pixels)))
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    return raw


def cifar_records(count, label_bytes=1, classes=10):
    rng = np.random.default_rng(count)
    records = rng.integers(0, 256, (count, label_bytes + 3072), dtype=np.uint8)
    records[:, label_bytes - 1] = np.arange(count) % classes
    return records


# --- reading -------------------------------------------------------------------------------------


def test_digits_need_neither_folder_nor_network():
    digits = load("digits")
    assert digits.train_images.shape == (1300, 1, 8, 8)
    assert digits.test_images.shape == (497, 1, 8, 8)
    assert digits.train_images.max() == digits.peak == 16
    assert digits.digest == load("digits").digest


def test_fashion_mnist_is_read_from_plain_and_gzipped_idx(tmp_path):
    write_fashion_mnist(tmp_path)
    data = load("fashion-mnist", tmp_path, download=False)
    assert data.train_images.shape == (20, 1, 28, 28)
    assert data.train_images[0, 0, 0, :3].tolist() == [0, 1, 2]
    assert data.test_labels.tolist() == list(range(10)) * 2


@given(shape=st.lists(st.integers(1, 5), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_idx_round_trip(shape, tmp_path_factory):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(idx_bytes(array))
    np.testing.assert_array_equal(read_idx(path), array)


@pytest.mark.parametrize("keep", [0, 3, 10, -1])
def test_truncated_idx_is_an_error_that_names_the_file(tmp_path, keep):
    whole = idx_bytes(np.zeros((3, 4, 4), np.uint8))
    path = tmp_path / "cut-idx3-ubyte"
    path.write_bytes(whole[:keep] if keep >= 0 else whole[:-1])
    with pytest.raises(DataError, match="cut-idx3-ubyte"):
        read_idx(path)


def test_damaged_gzip_is_an_error(tmp_path):
    whole = bytearray(gzip.compress(idx_bytes(np.arange(3000, dtype=np.uint8))))
    for name, content in (
        ("cut.gz", whole[:-20]),
        ("bent.gz", whole.replace(whole[30:33], b"xyz")),
    ):
        (tmp_path / name).write_bytes(bytes(content))
        with pytest.raises(DataError, match=rf"{name} (cannot be read|is truncated or corrupt)"):
            read_idx(tmp_path / name)


@pytest.mark.parametrize("promised", [(28, 28), (40_000, 40_000)])
def test_a_gzip_bomb_is_refused_before_it_fills_the_memory(tmp_path, promised):
    path = tmp_path / "bomb-idx3-ubyte.gz"
    header = b"\x00\x00\x08\x02" + np.array(promised, ">u4").tobytes()
    zeros = bytes(2**20)
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header)
        for _ in range(64):
            file.write(zeros)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"bomb-idx3-ubyte\.gz is (no data set|truncated)"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_other_content_is_not_taken_for_idx(tmp_path):
    path = tmp_path / "page"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match="is not an IDX file"):
        read_idx(path)


def test_absent_files_without_download_name_the_remedy(tmp_path):
    with pytest.raises(DataError, match=r"missing; name the folder .* --data-dir or KDSIM_DATA"):
        load("fashion-mnist", tmp_path, download=False)
    for name in ("cifar10", "cifar10-jpeg", "cifar100"):
        with pytest.raises(DataError, match=r"holds no test.*; name the folder .* --data-dir or"):
            load(name, tmp_path, download=False)
    (tmp_path / "cifar-10-batches-bin").mkdir()
    cifar_records(10).tofile(tmp_path / "cifar-10-batches-bin" / "test_batch.bin")
    for name in ("cifar10", "cifar10-jpeg"):
        with pytest.raises(DataError, match=r"holds no data_batch_\d.bin; name the folder"):
            load(name, tmp_path, download=False)


def test_cifar_records_are_split_into_label_and_pixels(tmp_path):
    for label_bytes in (1, 2):
        records = cifar_records(7, label_bytes)
        records.tofile(tmp_path / "batch.bin")
        images, labels = read_cifar(tmp_path / "batch.bin", fine=label_bytes == 2)
        np.testing.assert_array_equal(images.reshape(7, -1), records[:, label_bytes:])
        assert labels.tolist() == list(range(7))


def test_truncated_cifar_is_an_error(tmp_path):
    path = tmp_path / "batch.bin"
    path.write_bytes(cifar_records(2).tobytes()[:-1])
    with pytest.raises(DataError, match=r"batch\.bin is truncated.*multiple of 3073 bytes"):
        read_cifar(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="got 0"):
        read_cifar(path)


def test_partial_cifar10_is_only_read_under_its_own_name(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    cifar_records(20).tofile(folder / "data_batch_1.bin")
    cifar_records(10).tofile(folder / "test_batch.bin")
    assert load("cifar10-jpeg", tmp_path).name == "cifar10-jpeg"
    with pytest.raises(DataError, match="ask for cifar10-jpeg"):
        load("cifar10", tmp_path)  # and nothing is fetched over someone's files
    for k in range(2, 6):
        cifar_records(20).tofile(folder / f"data_batch_{k}.bin")
    with pytest.raises(DataError, match="50000 training and 10000 test images, got 100 and 10"):
        load("cifar10", tmp_path)


def test_unknown_name_lists_the_known():
    with pytest.raises(DataError, match=r"digits, fashion-mnist.*got 'mnist'"):
        load("mnist")


def test_folder_is_argument_then_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("KDSIM_DATA", str(tmp_path))
    assert data_folder() == tmp_path
    assert data_folder(tmp_path / "other") == tmp_path / "other"
    monkeypatch.delenv("KDSIM_DATA")
    assert data_folder().name == "kdsim"


def test_faulty_arrays_are_refused():
    data = made_up()
    images, labels = data.train_images, data.train_labels
    test = data.test_images, data.test_labels
    with pytest.raises(DataError, match="60 images but 59 labels"):
        Dataset("bad", images, labels[:-1], *test, 3)
    with pytest.raises(DataError, match="labels must lie in 0 to 1"):
        Dataset("bad", images, labels, *test, 2)
    with pytest.raises(DataError, match="train has no image of class 3"):
        Dataset("bad", images, labels, *test, 4)
    with pytest.raises(DataError, match=r"train must be images .* got shapes .* \(60, 1\)"):
        Dataset("bad", images, labels[:, None], *test, 3)
    with pytest.raises(DataError, match=r"test must be images .* got shapes \(12, 1, 0, 5\)"):
        Dataset("bad", images, labels, test[0][:, :, :0], test[1], 3)
    with pytest.raises(DataError, match=r"of one shape, got \(1, 6, 5\) and \(1, 6, 4\)"):
        Dataset("bad", images, labels, test[0][..., 1:], test[1], 3)


@pytest.mark.data
def test_real_fashion_mnist_is_complete():
    if not os.environ.get("KDSIM_DATA"):
        pytest.skip("KDSIM_DATA names no folder of real data")
    data = load("fashion-mnist", download=False)
    assert np.bincount(data.train_labels).tolist() == [6000] * 10
    assert np.bincount(data.test_labels).tolist() == [1000] * 10


# --- tensors -------------------------------------------------------------------------------------


def test_images_are_normalised_by_the_training_part():
    data = made_up()
    images = data.images("train")
    pixels = data.train_images.astype(float)
    expected = (pixels - pixels.mean()) / pixels.std()
    np.testing.assert_allclose(images.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert images.dtype == torch.float32
    assert data.labels("test", [2, 0]).tolist() == [2, 0]
    with pytest.raises(DataError, match="part must be"):
        data.images("validation")


def test_augmentation_flips_and_shifts_and_nothing_else():
    images = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).reshape(2, 3, 4, 5) + 1
    same = augment(images, generator=torch.Generator().manual_seed(1), pad=0)
    for before, after in zip(images, same, strict=True):
        assert torch.equal(before, after) or torch.equal(before.flip(2), after)
    moved = augment(images, generator=torch.Generator().manual_seed(1), pad=2)
    assert moved.shape == images.shape
    assert set(moved.unique().tolist()) <= {0.0, *images.unique().tolist()}
    again = augment(images, generator=torch.Generator().manual_seed(1), pad=2)
    assert torch.equal(moved, again)


# --- splits --------------------------------------------------------------------------------------


@given(
    teacher=st.integers(3, 20), student=st.integers(3, 20), stream=st.integers(0, 20),
    seed=st.integers(0, 10**6),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_no_index_is_shared_between_parts(teacher, student, stream, seed):
    data = made_up()
    parts = split(data, teacher=teacher, student=student, stream=stream, seed=seed)
    joined = np.concatenate([parts.teacher, parts.student, parts.stream])
    assert len(joined) == len(set(joined.tolist())) == teacher + student + stream
    assert joined.max() < 60
    assert parts.test.tolist() == list(range(12))
    for part in (parts.teacher, parts.student):
        counts = np.bincount(data.train_labels[part], minlength=3)
        assert counts.max() - counts.min() <= 2


def test_the_teacher_is_the_same_for_every_seed_and_the_student_is_not():
    first = split(made_up(), teacher=20, student=9, stream=9, seed=0)
    other = split(made_up(), teacher=20, student=9, stream=9, seed=1)
    assert first.teacher.tolist() == other.teacher.tolist()
    assert first.student.tolist() != other.student.tolist()
    again = split(made_up(), teacher=20, student=9, stream=9, seed=0)
    assert first.stream.tolist() == again.stream.tolist()


def test_impossible_splits_are_refused():
    with pytest.raises(DataError, match=r"40 \+ student 20 \+ stream 1 = 61 images.*holds 60"):
        split(made_up(), teacher=40, student=20, stream=1)
    with pytest.raises(DataError, match="student part of 2 images has none of class"):
        split(made_up(), teacher=40, student=2)
    with pytest.raises(DataError, match="must not be negative"):
        split(made_up(), teacher=-1, student=2)


# --- fetching, from a server on the loopback ----------------------------------------------------


@contextmanager
def serving(folder):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


def test_a_file_is_fetched_verified_and_kept_out_when_its_checksum_is_wrong(tmp_path):
    served = tmp_path / "served"
    served.mkdir()
    (served / "file.bin").write_bytes(b"content")
    good, target = md5(b"content").hexdigest(), tmp_path / "data" / "file.bin"
    with serving(served) as url:
        with pytest.raises(DataError, match="its checksum is wrong"):
            fetch_file(f"{url}/file.bin", f"md5:{'0' * 32}", target)
        assert not target.exists()
        fetch_file(f"{url}/file.bin", f"md5:{good}", target)
        assert target.read_bytes() == b"content"
        with pytest.raises(DataError, match=r"absent\.bin cannot be fetched.*--data-dir"):
            fetch_file(f"{url}/absent.bin", f"md5:{good}", tmp_path / "data" / "absent.bin")
    with pytest.raises(DataError, match="cannot be fetched"):
        fetch_file("http://127.0.0.1:9/x", f"md5:{good}", tmp_path / "data" / "x")


def test_an_archive_cannot_write_outside_its_folder(tmp_path):
    archive = tmp_path / "a.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name in ("folder/data.bin", "../../escaped.bin"):
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"abc"))
    unpack_files(archive, tmp_path / "in" / "here")
    found = {p.name for p in (tmp_path / "in" / "here").iterdir()}
    assert found == {"data.bin", "escaped.bin"}
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack_files(archive, tmp_path / "in" / "there")
    assert list((tmp_path / "in" / "there").iterdir()) == []
