"""A training that did not settle is said beside its figures."""

import pytest

from calibration.workloads.aflkd.settling import (
    settling_rows,
    settling_table,
    unsettled_rows,
    went_backwards,
)


@pytest.mark.parametrize(
    ("losses", "backwards"),
    [
        ([8.0, 4.0, 2.0], False),
        ([8.0, 4.0, 6.0], True),
        ([8.0, 0.1, 0.2], False),  # small all along: twice the least is no way back
        ([8.0, 4.0, 2.0, 4.0, 2.0, 5.0], True),  # in the second training
        ([8.0, 5.0, 5.2], False),  # never far from its beginning, but hardly above its least
    ],
)
def test_a_run_went_backwards_if_its_loss_came_near_its_beginning_again(losses, backwards):
    assert went_backwards(losses, epochs=3) is backwards


def result(*shares, loss=(2.0, 1.0, 0.5)):
    runs = [
        {"net": "edge-1", "method": "sslf", "course": {"loss": loss, "train_accuracy": [0.1, 1, s]}}
        for s in shares
    ]
    student = {"training": {"epochs": 3, "learning_rate": 0.01}}
    return {"manifest": {"config": {"student": student}}, "runs": runs}


def test_rows_count_the_last_epoch_of_every_run():
    (row,) = settling_rows(result(0.5, 0.7))
    assert (row["runs"], row["backwards"]) == (2, 0)
    assert (row["least"], row["mean"], row["most"]) == (0.5, pytest.approx(0.6), 0.7)


@pytest.mark.parametrize(
    ("shares", "loss", "settled"),
    [
        ((0.9, 0.95), (2.0, 1.0, 0.5), True),
        ((0.4, 0.5), (2.0, 1.0, 0.5), False),
        ((0.9, 0.95), (2.0, 1.0, 1.9), False),
    ],
)
def test_a_method_that_did_not_settle_is_named_with_its_rate_and_epochs(shares, loss, settled):
    found = result(*shares, loss=loss)
    text = "\n".join(settling_table(found))
    assert (unsettled_rows(found) == []) is settled
    assert ("Not settled: sslf." in text) is not settled
    assert ("a learning rate of 0.01 and 3 epochs" in text) is not settled
