"""A folder of images, one folder per class."""

import numpy as np
import pytest
from PIL import Image

from calibration.workloads.data import image_folder
from calibration.workloads.data.image_folder import load_image_folder, read_image
from kdsim.errors import DataError


def paint(path, colour, size=(20, 12), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


COLOURS = {"a/abbey": (250, 10, 10), "a/alley": (10, 250, 10), "b/bar/indoor": (10, 10, 250)}


@pytest.fixture
def scenes(tmp_path):
    """Three classes in SUN397's layout, 10, 20 and 4 images, and what does not count."""
    for (label, colour), count in zip(COLOURS.items(), (10, 20, 4), strict=True):
        for k in range(count):
            paint(tmp_path / "scenes" / label / f"sun_{k:02}.jpg", colour)
    (tmp_path / "scenes" / "ClassName.txt").write_text("/a/abbey\n")
    (tmp_path / "scenes" / "empty").mkdir()
    return tmp_path / "scenes"


def test_the_class_of_an_image_is_the_path_of_its_folder(scenes):
    dataset = load_image_folder(scenes, 16)
    assert (dataset.name, dataset.classes, dataset.input_shape) == ("scenes-16px", 3, (3, 16, 16))
    assert np.bincount(dataset.train_labels).tolist() == [9, 18, 3]
    assert np.bincount(dataset.test_labels).tolist() == [1, 2, 1]
    for part in ("train", "test"):
        images, labels = getattr(dataset, f"{part}_images"), getattr(dataset, f"{part}_labels")
        for image, label in zip(images, labels, strict=True):
            colour = np.array(list(COLOURS.values())[label])[:, None, None]
            assert np.abs(image.astype(int) - colour).max() <= 8  # JPEG


def test_what_is_held_out_follows_from_the_names_alone(scenes):
    for k, path in enumerate(sorted((scenes / "a/alley").iterdir())):
        paint(path, (10 * k, 0, 0))

    def shades(dataset):
        return sorted(int(i[0, 0, 0]) for i in dataset.test_images[dataset.test_labels == 1])

    assert shades(load_image_folder(scenes, 8)) == shades(load_image_folder(scenes, 8))
    assert len(set(shades(load_image_folder(scenes, 8)))) == 2


def test_folders_train_and_test_are_the_parts(tmp_path):
    for part, count in (("train", 3), ("test", 2)):
        for label in ("cat", "dog"):
            for k in range(count):
                paint(tmp_path / part / label / f"{k}.png", (k, k, k))
    dataset = load_image_folder(tmp_path, 8)
    assert dataset.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.train_images[:3, 0, 0, 0].tolist() == [0, 1, 2]
    assert dataset.test_images[:, 0, 0, 0].tolist() == [0, 1, 0, 1]
    paint(tmp_path / "test/emu/0.png", (1, 1, 1))
    with pytest.raises(DataError, match="class emu is in only one of train and test"):
        load_image_folder(tmp_path, 8)


def test_the_central_square_is_kept_and_grey_becomes_rgb(tmp_path):
    wide = np.zeros((8, 24), np.uint8)
    wide[:, 8:16] = 200
    Image.fromarray(wide).save(tmp_path / "wide.png")
    image = read_image(tmp_path / "wide.png", 8)
    assert image.shape == (3, 8, 8)
    assert image.dtype == np.uint8
    assert np.all(image == 200)


def test_what_is_no_folder_of_images_is_refused_in_a_line(scenes, monkeypatch):
    with pytest.raises(DataError, match="is no folder of images"):
        load_image_folder(scenes / "none")
    with pytest.raises(DataError, match="8 pixels wide or more, got 4"):
        load_image_folder(scenes, 4)
    with pytest.raises(DataError, match=r"abbey holds 0 classes|in no class's folder"):
        load_image_folder(scenes / "a/abbey")
    with pytest.raises(DataError, match="empty holds 0 classes"):
        load_image_folder(scenes / "empty")
    paint(scenes / "c/cave/0.png", (0, 0, 0))
    with pytest.raises(DataError, match="class c/cave has 1 image; training and testing"):
        load_image_folder(scenes)
    (scenes / "c/cave/0.png").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(image_folder, "_MAX_BYTES", 3 * 34 * 100)
        with pytest.raises(DataError, match=r"34 images of 16 pixels take .* 10 pixels fit"):
            load_image_folder(scenes, 16)


def test_a_damaged_image_is_named(scenes, monkeypatch):
    path = scenes / "a/abbey/sun_03.jpg"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"sun_03\.jpg cannot be decoded"):
        load_image_folder(scenes, 16)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match=r"sun_03\.jpg cannot be decoded"):
        load_image_folder(scenes, 16)
    path.write_bytes(content)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 150)
    with pytest.raises(DataError, match=r"cannot be decoded: .*decompression bomb"):
        load_image_folder(scenes, 16)
