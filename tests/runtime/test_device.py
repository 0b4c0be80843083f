"""Names of dtypes, alone and behind a checkpoint's path."""

from pathlib import Path

import pytest
import torch

from plait.errors import ConfigError
from plait.runtime.device import bits_of, resolve_dtype, with_dtype

CPU = torch.device("cpu")


def test_a_dtype_may_stand_behind_a_path(tmp_path):
    assert with_dtype(Path("smol")) == (Path("smol"), "auto")
    assert with_dtype(Path("smol"), "float32") == (Path("smol"), "float32")
    assert with_dtype(Path("runs/mine@int4")) == (Path("runs/mine"), "int4")
    (tmp_path / "me@int8").mkdir()
    assert with_dtype(tmp_path / "me@int8") == (tmp_path / "me@int8", "auto"), "a folder of this name"
    assert with_dtype(tmp_path / "me@int8" / "run") == (tmp_path / "me@int8" / "run", "auto")


def test_another_dtype_is_refused():
    with pytest.raises(ConfigError, match="smol@int8 in float32; expected one dtype"):
        with_dtype(Path("smol@int8"), "float32")
    with pytest.raises(
        ConfigError, match=r"smol@int3, which is not there; expected .* auto, float32, bfloat16, int8, int4"
    ):
        with_dtype(Path("smol@int3"))
    with pytest.raises(ConfigError, match="dtype=float16; expected auto, float32, bfloat16, int8, int4"):
        resolve_dtype("float16", CPU)


def test_whole_numbers_are_for_weights():
    assert [bits_of(name) for name in ("auto", "float32", "bfloat16", "int8", "int4")] == [0, 0, 0, 8, 4]
    assert resolve_dtype("int4", CPU) == torch.bfloat16
    assert resolve_dtype("float32", CPU) == torch.float32
