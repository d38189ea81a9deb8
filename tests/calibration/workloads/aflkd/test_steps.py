"""What explains why KD with all layers frozen goes backwards is measured right."""

import pytest
import torch
from aflkd_study import steps

from calibration.workloads.training.networks import build_network


def test_the_curvature_of_a_quadratic_is_its_largest_eigenvalue():
    """Over two tensors at once, with an eigenvector that spans both."""
    drawn = torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
    axes, _ = torch.linalg.qr(drawn)
    matrix = axes @ torch.diag(torch.tensor([1.0, 9.0, 4.0, 3.0, 0.5, 2.0])) @ axes.T
    first, second = (torch.zeros(n, requires_grad=True) for n in (2, 4))
    both = torch.cat([first, second])
    found = steps.largest_curvature(0.5 * both @ matrix @ both, [first, second])
    assert found == pytest.approx(9.0, rel=1e-4)


def test_silent_units_are_those_that_no_image_wakes():
    network = build_network("edge-1", (1, 8, 8), 4, seed=0)
    images = torch.randn(30, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        network.head[1].weight[:256] = 0.0
        network.head[1].bias[:256] = -1.0
        network.head[1].bias[256:] = 10.0
    assert steps.silent_units(network, images) == pytest.approx(256 / 1024)
