"""Starting weights from a file."""

import pytest
import torch
from torch import nn

from calibration.workloads.training.checkpoints import snapshot
from calibration.workloads.training.residual import build_client_network
from calibration.workloads.training.weights import start_from, starting_weights
from kdsim.errors import WorkloadError


class Block(nn.Module):
    """A basic block with torchvision's names, written from its documentation."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        kept = x if self.downsample is None else self.downsample(x)
        x = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(x)) + kept).relu()


class Reference(nn.Module):
    """ResNet-18 with torchvision's names, for images of 224 pixels."""

    def __init__(self, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = 64
        for number, outputs in enumerate((64, 128, 256, 512), 1):
            stage = [Block(inputs, outputs, 1 if number == 1 else 2), Block(outputs, outputs, 1)]
            setattr(self, f"layer{number}", nn.Sequential(*stage))
            inputs = outputs
        self.fc = nn.Linear(512, classes)

    def forward(self, x):
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        for number in (1, 2, 3, 4):
            x = getattr(self, f"layer{number}")(x)
        return self.fc(x.mean(dim=(2, 3)))


@pytest.fixture(scope="module")
def reference():
    """A network whose BatchNorms have seen something, so that each entry matters."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Reference(10)
        for entry in network.modules():
            if isinstance(entry, nn.BatchNorm2d):
                entry.running_mean.uniform_(-0.1, 0.1)
                entry.running_var.uniform_(0.5, 2.0)
                nn.init.uniform_(entry.weight, 0.5, 1.5)
                nn.init.uniform_(entry.bias, -0.1, 0.1)
    return network.eval()


def saved(folder, state, name="weights.pt"):
    path = folder / name
    torch.save(state, path)
    return starting_weights(path)


def images(count, *shape):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(3))


def test_a_file_with_torchvisions_names_gives_the_same_answers(tmp_path, reference):
    network = build_client_network("resnet-18-large", (3, 64, 64), 10, seed=1).eval()
    assert start_from(network, saved(tmp_path, reference.state_dict())) == []
    with torch.no_grad():
        torch.testing.assert_close(network(images(2, 3, 64, 64)), reference(images(2, 3, 64, 64)))


def test_with_other_classes_the_last_layer_alone_stays_fresh(tmp_path, reference):
    network = build_client_network("resnet-18-large", (3, 64, 64), 4, seed=1).eval()
    fresh = snapshot(network.head[-1])
    assert start_from(network, saved(tmp_path, reference.state_dict())) == [
        "head.2.weight",
        "head.2.bias",
    ]
    after = network.head[-1].state_dict()
    assert all(torch.equal(after[name], fresh[name]) for name in fresh)
    assert torch.equal(network.features[0].weight, reference.conv1.weight)


def test_a_network_starts_from_its_own_weights_again(tmp_path):
    first, other = (build_client_network("small-cnn", (1, 8, 8), 4, seed=s) for s in (0, 1))
    old = {k: v for k, v in first.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert start_from(other, saved(tmp_path, old)) == []
    assert torch.equal(other.eval()(images(3, 1, 8, 8)), first.eval()(images(3, 1, 8, 8)))


def test_what_does_not_fit_is_refused_by_name_and_moves_nothing(tmp_path, reference):
    network = build_client_network("small-cnn", (1, 8, 8), 4, seed=0)
    before = snapshot(network)
    state = network.state_dict()
    for wrong, told in (
        (reference.state_dict(), r"features\.0\.weight is missing \(and \d+ more"),
        ({k: v for k, v in state.items() if k != "head.1.bias"}, "head.1.bias is missing$"),
        ({**state, "extra": torch.ones(1)}, "small-cnn has no extra$"),
        (
            {**state, "features.0.weight": torch.ones(16, 3, 3, 3)},
            r"features.0.weight has shape \(16, 3, 3, 3\), but small-cnn needs \(16, 1, 3, 3\)$",
        ),
        ({**state, "head.1.bias": torch.full((64,), torch.nan)}, "'head.1.bias' holds NaN"),
        ({"epoch": 3}, "'epoch' must be a dense tensor"),
    ):
        with pytest.raises(WorkloadError, match=told):
            start_from(network, saved(tmp_path, wrong))
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_the_stem_of_small_images_does_not_take_that_of_large_ones(tmp_path, reference):
    network = build_client_network("resnet-18", (3, 32, 32), 10, seed=0)
    with pytest.raises(
        WorkloadError, match=r"\(64, 3, 7, 7\), but resnet-18 needs \(64, 3, 3, 3\)"
    ):
        start_from(network, saved(tmp_path, reference.state_dict()))


def test_a_file_that_is_absent_old_or_changed_is_refused(tmp_path):
    with pytest.raises(WorkloadError, match=r"none\.pt cannot be read: No such file"):
        starting_weights(tmp_path / "none.pt")
    network = build_client_network("small-cnn", (1, 8, 8), 4, seed=0)
    old = tmp_path / "old.pt"
    torch.save(network.state_dict(), old, _use_new_zipfile_serialization=False)
    with pytest.raises(WorkloadError, match=r"torch before 1\.6; write them again"):
        starting_weights(old)
    weights = saved(tmp_path, network.state_dict())
    torch.save({**network.state_dict(), "head.1.bias": torch.ones(64)}, weights.path)
    with pytest.raises(WorkloadError, match="have changed since"):
        start_from(network, weights)
