"""Label-free adaptation of per-camera students."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
import torch

from calibration.workloads.data.datasets import Dataset
from calibration.workloads.decentralized import adaptation
from calibration.workloads.decentralized.adaptation import (
    AdaptationPlan,
    Camera,
    draw_cameras,
    run_adaptation,
    view,
)
from kdsim.errors import WorkloadError

PLAN = AdaptationPlan(
    cameras=2, teacher="small-cnn", general_samples=60, camera_samples=24, teacher_epochs=3,
    student_epochs=1, camera_epochs=2, batch=12,
)  # fmt: skip


@pytest.fixture(scope="module")
def dataset():
    """Images whose class lights up one quadrant."""
    rng = np.random.default_rng(0)

    def part(count):
        labels = np.arange(count) % 4
        images = rng.integers(0, 190, (count, 1, 8, 8))
        for image, label in zip(images, labels, strict=True):
            row, column = divmod(int(label), 2)
            image[0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 60
        return images.astype(np.uint8), labels.astype(np.int64)

    return Dataset("quadrants", *part(120), *part(60), classes=4)


def generator():
    return torch.Generator().manual_seed(0)


def pictures(*shape):
    return torch.randn(*shape, generator=generator())


def test_a_camera_without_shifts_shows_images_as_they_are():
    images = pictures(3, 1, 8, 8)
    (still,) = draw_cameras(1, strength=0.0, seed=5)
    assert torch.equal(view(images, [still], generator=generator()), images)


def test_a_quarter_turn_turns_the_image():
    images = pictures(2, 1, 8, 8)
    turned = view(images, [Camera("C", rotation_deg=90.0)], generator=generator())
    quarter = [torch.rot90(images, k, dims=(2, 3)) for k in (1, -1)]
    assert any(torch.allclose(turned, q, atol=1e-5) for q in quarter)


def test_a_shift_moves_the_image_to_the_right_and_down():
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 2, 3] = 1.0
    shown = view(image, [Camera("C", shift=(0.5, 0.25))], generator=generator())  # 2 and 1 pixels
    assert shown[0, 0, 3, 5].item() == pytest.approx(1.0, abs=1e-5)


def test_light_blur_and_noise_act_as_documented():
    images = pictures(4, 1, 16, 16)
    lit = view(images, [Camera("C", gain=0.5, offset=1.0)], generator=generator())
    torch.testing.assert_close(lit, 0.5 * images + 1.0)
    blurred = view(images, [Camera("C", blur=1.0)], generator=generator())
    torch.testing.assert_close(blurred[:, :, 5, 5], images[:, :, 4:7, 4:7].mean(dim=(2, 3)))
    noisy = view(torch.zeros(4, 1, 64, 64), [Camera("C", noise=0.3)], generator=generator())
    assert noisy.std().item() == pytest.approx(0.3, rel=0.05)


def test_each_image_may_have_a_camera_of_its_own():
    images = pictures(2, 1, 8, 8)
    cameras = [Camera("A"), Camera("B", offset=1.0)]
    shown = view(images, cameras, generator=generator())
    torch.testing.assert_close(shown, images + torch.tensor([0.0, 1.0])[:, None, None, None])
    with pytest.raises(WorkloadError, match="2 cameras cannot show 3 images"):
        view(pictures(3, 1, 8, 8), cameras, generator=generator())


def test_rows_hold_four_accuracies_a_camera_and_repeat_with_the_seed(dataset):
    rows = run_adaptation(dataset, PLAN)
    assert [row["camera"] for row in rows] == ["C1", "C2"]
    for row in rows:
        assert all(0 <= row[k] <= 1 for k in ("teacher", "general", "distilled", "supervised"))
    assert run_adaptation(dataset, PLAN) == rows
    assert run_adaptation(dataset, replace(PLAN, seed=1)) != rows


def test_students_adapt_without_a_label_of_their_camera(dataset, monkeypatch):
    """Wrong labels on the cameras' images change the supervised reference alone."""
    plan = replace(PLAN, camera_epochs=8)
    rows = run_adaptation(dataset, plan)
    student_part = set()
    original = adaptation.split

    def recording(*args, **kwargs):
        parts = original(*args, **kwargs)
        student_part.update(parts.student.tolist())
        return parts

    monkeypatch.setattr(adaptation, "split", recording)
    run_adaptation(dataset, plan)
    honest = Dataset.labels

    def lying(self, part, indices=None):
        labels = honest(self, part, indices)
        if part == "train" and indices is not None and not set(indices.tolist()) <= student_part:
            return (labels + 1) % self.classes
        return labels

    monkeypatch.setattr(Dataset, "labels", lying)
    misled = run_adaptation(dataset, plan)
    for before, after in zip(rows, misled, strict=True):
        assert after["distilled"] == before["distilled"]
        assert after["supervised"] < before["supervised"]


def test_a_student_closes_in_on_a_better_teacher(dataset):
    plan = replace(PLAN, teacher_epochs=8, camera_epochs=15, strength=0.6)
    rows = run_adaptation(dataset, plan)
    gap = {k: np.mean([row["teacher"] - row[k] for row in rows]) for k in ("general", "distilled")}
    assert gap["distilled"] < gap["general"]


def test_faults_are_told_in_words():
    with pytest.raises(WorkloadError, match="cameras must be at least 1"):
        replace(PLAN, cameras=0)
    with pytest.raises(WorkloadError, match="measure must be one of"):
        replace(PLAN, measure="mse")
    with pytest.raises(WorkloadError, match="strength in"):
        draw_cameras(2, strength=5.0, seed=0)
    assert "labels" not in inspect.signature(view).parameters
