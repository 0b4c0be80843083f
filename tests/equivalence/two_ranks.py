"""One of two processes: gradients of a step of 8 sequences, 4 a rank; rank 0 stores them. See test_ranks.py."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parents[1]))
from worlds import World

from plait.data.loader import Loader, PackConfig
from plait.train import distributed, trainer
from plait.train.objectives.pretrain import Pretrain

rank, meeting, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
world = World()
loader = Loader(world.samples(), {}, world.encoder, PackConfig(length=160, sequences=8), 0)
model = world.model()
with distributed.loader_ranks() as ranks:
    batches = loader.next_step(ranks)
losses = trainer.accumulate(model, batches, Pretrain(), {})
if rank == 0:
    torch.save({"losses": losses, "gradients": {name: p.grad for name, p in model.named_parameters()}}, out)
dist.destroy_process_group()
