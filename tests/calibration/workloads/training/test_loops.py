import itertools

import pytest
import torch
from torch import nn
from workload_data import stripes

from calibration.workloads.training.loops import (
    TrainingConfig,
    accuracy,
    fit,
    predict,
    state_digest,
    train_epoch,
)
from calibration.workloads.training.networks import build_network
from kdsim.errors import WorkloadError


def trained(checkpoint=None, *, epochs=3, seed=0, on_epoch=None, **options):
    data = stripes()
    network = build_network("edge-1", data.input_shape, data.classes, seed=1)
    config = TrainingConfig(epochs=epochs, batch_size=16, **options)
    images, labels = data.images("train", range(40)), data.labels("train", range(40))
    history = fit(
        network, images, labels, config, seed=seed, checkpoint=checkpoint, on_epoch=on_epoch
    )
    return network, history


def test_equal_seeds_give_equal_weights_whatever_ran_before():
    first, history = trained(augment=True)
    torch.rand(17)
    second, again = trained(augment=True)
    assert state_digest(first) == state_digest(second)
    assert history == again
    assert state_digest(first) != state_digest(trained(seed=1, augment=True)[0])


def test_training_learns():
    network, history = trained(epochs=6)
    data = stripes()
    assert history[-1]["loss"] < history[0]["loss"]
    assert accuracy(predict(network, data.images("test")), data.labels("test")) > 0.9


# --- resume --------------------------------------------------------------------------------------


class StopHereError(Exception):
    pass


@pytest.mark.parametrize("decay", ["constant", "cosine"])
def test_resume_gives_the_weights_of_an_uninterrupted_run(tmp_path, decay):
    def stop(epoch, _):
        if epoch == 2:
            raise StopHereError

    path = tmp_path / "deep" / "teacher.pt"
    with pytest.raises(StopHereError):
        trained(path, decay=decay, on_epoch=stop)
    seen = []
    resumed, history = trained(path, decay=decay, on_epoch=lambda epoch, _: seen.append(epoch))
    whole, whole_history = trained(decay=decay)
    assert seen == [3]
    assert state_digest(resumed) == state_digest(whole)
    assert history == whole_history


def test_a_finished_checkpoint_is_only_loaded(tmp_path):
    network, _ = trained(tmp_path / "t.pt")
    seen = []
    again, _ = trained(tmp_path / "t.pt", on_epoch=lambda epoch, _: seen.append(epoch))
    assert seen == []
    assert state_digest(network) == state_digest(again)


def test_a_checkpoint_of_another_run_is_refused_by_its_first_difference(tmp_path):
    trained(tmp_path / "t.pt")
    with pytest.raises(WorkloadError, match=r"another run: seed was 0, now 1"):
        trained(tmp_path / "t.pt", seed=1)
    with pytest.raises(WorkloadError, match=r"training\.learning_rate was 0\.01, now 0\.02"):
        trained(tmp_path / "t.pt", learning_rate=0.02)


# --- steps ---------------------------------------------------------------------------------------


def test_predict_puts_every_mode_back():
    network = build_network("small-cnn", (1, 8, 8), 3).train()
    network.features[1].eval()
    modes = [m.training for m in network.modules()]
    buffers = network.features[1].running_mean.clone()
    logits = predict(network, torch.randn(7, 1, 8, 8), batch_size=3)
    assert logits.shape == (7, 3)
    assert not logits.requires_grad
    assert [m.training for m in network.modules()] == modes
    assert torch.equal(buffers, network.features[1].running_mean)


def test_predict_learns_nothing_and_drops_nothing():
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5)).train()
    before, inputs = state_digest(network), torch.randn(7, 2)
    logits = predict(network, inputs, batch_size=3)
    assert state_digest(network) == before
    torch.testing.assert_close(logits, network.eval()(inputs))


def test_an_epoch_s_loss_is_the_mean_over_its_images():
    # Batches of three images and of one: a mean over batches would be 2.
    measure = train_epoch(
        nn.Linear(2, 2),
        torch.ones(4, 2),
        torch.zeros(4, dtype=torch.int64),
        lambda logits, rows, batch: 0.0 * logits.sum() + len(rows),
        [],
        [torch.arange(3), torch.tensor([3])],
    )
    assert measure.loss == (3 * 3 + 1) / 4


def test_each_epoch_steps_with_its_own_learning_rate():
    config = TrainingConfig(epochs=3, learning_rate=0.5, momentum=0.0, decay="cosine", batch_size=8)
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2))
    bias = [network[1].bias.detach().clone()]
    fit(
        network, torch.ones(4, 1, 1, 2), torch.zeros(4, dtype=torch.int64), config, seed=0,
        objective=lambda logits, rows, batch: logits.sum(dim=1).mean(),  # one per step and bias
        on_epoch=lambda epoch, measure: bias.append(network[1].bias.detach().clone()),
    )  # fmt: skip
    steps = [float((before - after)[0]) for before, after in itertools.pairwise(bias)]
    assert steps == pytest.approx([0.5, 0.375, 0.125])  # 0.5 * (1 + cos(pi * epoch / 3)) / 2


def test_a_loss_that_explodes_is_reported_with_its_step():
    network = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    with pytest.raises(WorkloadError, match=r"loss became -?inf at step 1"):
        train_epoch(
            network,
            torch.ones(4, 2),
            torch.zeros(4, dtype=torch.int64),
            lambda logits, rows, batch: logits.sum() * float("inf"),
            [optimizer],
            [torch.arange(4)],
        )


def test_a_training_without_images_is_refused():
    nothing = torch.empty(0, 2), torch.empty(0, dtype=torch.int64)
    with pytest.raises(WorkloadError, match="trained on no images"):
        fit(nn.Linear(2, 2), *nothing, TrainingConfig(), seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "must be positive"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"momentum": 1.0}, "momentum"),
        ({"decay": "linear"}, "decay"),
    ],
)
def test_bad_training_options_are_named(options, message):
    with pytest.raises(WorkloadError, match=message):
        TrainingConfig(**options)
