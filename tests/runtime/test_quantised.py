"""Weights in fewer bits: what is lost, and that kernels and torch make the same of them."""

import os
import subprocess
import sys

import pytest
import torch

from plait.errors import ConfigError
from plait.runtime import kernels
from plait.runtime.quantised import GROUP, quantise

WEIGHT = torch.randn(70, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("bits", "most"), [(8, 0.006), (4, 0.09)])
def test_what_is_lost_is_little(bits, most):
    """Of normal weights; the error as a share of their size. 4 bits: 15 steps over some 4 deviations, a step's error its 12th root."""
    error = (quantise(WEIGHT, bits).dequantised() - WEIGHT).square().mean().sqrt()
    assert 0 < error < most


def test_weights_that_came_in_four_bits_stay_as_they_are():
    """GGUF's Q4_1: a scale and a least weight in float16 a group, whose least and largest weights are the ends of the range."""
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 16, (8, 2, GROUP), generator=generator)
    levels[..., 3], levels[..., 9] = 0, 15
    scale, least = torch.rand(8, 2, 1, generator=generator).half(), torch.randn(8, 2, 1, generator=generator).half()
    weight = (levels * scale.float() + least.float()).view(8, -1)
    torch.testing.assert_close(quantise(weight, 4).dequantised(), weight, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("bits", [8, 4])
def test_groups_of_equals_stay(bits):
    weight = torch.zeros(2, 64)
    weight[1, GROUP:] = 0.5
    torch.testing.assert_close(quantise(weight, bits).dequantised(), weight, atol=1e-3, rtol=0)


@pytest.mark.skipif(kernels.library() is None, reason=kernels.unavailable())
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("rows", [1, 2, 3, 7, 13, 16, 37])
def test_the_kernel_multiplies_by_what_torch_would(bits, rows):
    quantised = quantise(WEIGHT, bits)
    x = torch.randn(rows, 96, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(quantised.product(x), x @ quantised.dequantised().T, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("bits", [8, 4])
def test_weights_that_are_not_finite_are_refused(bits):
    """Rounded they would be finite, and the model would speak nonsense."""
    with pytest.raises(ConfigError, match="not finite"):
        quantise(WEIGHT.masked_fill(WEIGHT > 2, torch.nan), bits)


def test_small_weights_are_not_cut_off():
    weight = torch.full((1, GROUP), 1.1e-5)
    torch.testing.assert_close(quantise(weight, 8).dequantised(), weight, atol=1e-7, rtol=0)


def test_other_numbers_of_bits_and_broken_groups_are_refused():
    with pytest.raises(ConfigError, match="got 3 bits; expected 8 or 4"):
        quantise(WEIGHT, 3)
    with pytest.raises(ConfigError, match="got weights of 40 columns; expected a multiple of 32"):
        quantise(torch.zeros(2, 40), 8)


def ask(**environment):
    code = "from plait.runtime import kernels; print(kernels.library() is not None, kernels.unavailable())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    return done.stdout.strip()


def test_without_a_compiler_or_by_wish_there_are_no_kernels(tmp_path):
    """And a compiler that fails is no error either."""
    assert ask(PLAIT_KERNELS="0") == "False turned off by PLAIT_KERNELS=0"
    assert ask(PATH=str(tmp_path), CC="nothing").startswith("False no C compiler found")
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho 'the disk is full' >&2\nexit 1\n")
    broken.chmod(0o755)
    assert ask(CC=str(broken), XDG_CACHE_HOME=str(tmp_path)) == "False they do not compile here: the disk is full"
    assert not list(tmp_path.glob("plait/kernels/*")), "nothing is left behind"


def test_a_folder_that_others_write_to_is_not_run_from(tmp_path):
    folder = tmp_path / "plait" / "kernels"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert "no one else may write to" in ask(XDG_CACHE_HOME=str(tmp_path))


@pytest.mark.skipif(kernels.library() is None, reason=kernels.unavailable())
def test_arithmetic_elsewhere_in_the_process_stays_as_it_is():
    """Libraries that are linked with -ffast-math round numbers near zero to it, in every thread that begins later."""
    code = (
        "import threading, torch; from plait.runtime import kernels; assert kernels.library() is not None; "
        "thread = threading.Thread(target=lambda: print(5e-324 * 1.0, float(torch.full((9,), 1e-40)[0] * 1.0))); "
        "thread.start(); thread.join(); print(5e-324 * 1.0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "0.0" not in done.stdout.split(), done.stdout


@pytest.mark.skipif(kernels.library() is None, reason=kernels.unavailable())
def test_kernels_are_compiled_once(tmp_path):
    assert ask(XDG_CACHE_HOME=str(tmp_path)) == "True"
    (made,) = (tmp_path / "plait" / "kernels").iterdir()
    before = made.stat().st_mtime_ns
    assert ask(XDG_CACHE_HOME=str(tmp_path)) == "True"
    assert made.stat().st_mtime_ns == before
