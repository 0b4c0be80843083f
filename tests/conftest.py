"""Shape types are checked here, and only here; one thread, because small tensors and barriers do not mix."""

from jaxtyping import install_import_hook

from plait.runtime import native

native.configure()  # before any test computes: MKL reads its settings once

hook = install_import_hook(["plait.model", "plait.heads"], "beartype.beartype")

import os  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
settings.register_profile("desk", deadline=None)
# the same examples each time; new ones are searched for at the desk
settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "desk")
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def world():
    """Three tiny modalities, a vocabulary, and samples of every kind."""
    from worlds import World

    return World()


@pytest.fixture(scope="session")
def small_digits(tmp_path_factory):
    """The digits data, built for real but small."""
    from worlds import build_small_digits

    return build_small_digits(tmp_path_factory.mktemp("digits"))
