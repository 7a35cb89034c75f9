# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: "1.3"
# ---

# %% [markdown]
# # Train with Lightning, stop, and go on
#
# Lightning asks a `LightningDataModule` for loaders. A `RadiLoader` is one: each pass over it is the
# next epoch, and its `state_dict` says which batch comes next. So training that was killed in the
# middle of an epoch goes on with the batch that it would have had.

# %%
import logging
import tempfile
import warnings
from pathlib import Path

import lightning as lit
import torch

from radiobject.examples import study
from radiobject.ml import Foreground, PatchPlan, RadiLoader, SampleSpec

warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)  # Lightning's own
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
folder = Path(tempfile.mkdtemp())
radi = study(n=6, uri=folder / "heads")
radi

# %% [markdown]
# ## The data
#
# The plan decides everything that an epoch reads. `shard` is a process's part of it: with one process
# all of it. Batches are read straight onto the device of the process.


# %%
class Heads(lit.LightningDataModule):
    def __init__(self, radi, batch_size):
        super().__init__()
        self.radi, self.batch_size = radi, batch_size

    def setup(self, stage):
        spec = SampleSpec("T1w", "seg", patch_size=24)
        plan = PatchPlan(spec, self.radi, Foreground(0.5, per_volume=2), seed=1)
        mine = plan.shard(self.trainer.global_rank, self.trainer.world_size)
        self.loader = RadiLoader(mine, self.batch_size, device=self.trainer.strategy.root_device)

    def train_dataloader(self):
        return self.loader

    def state_dict(self):  # goes into every checkpoint
        return {"loader": self.loader.state_dict()}

    def load_state_dict(self, state):
        self.loader.load_state_dict(state["loader"])


# %% [markdown]
# ## The model
#
# It writes down which patches it saw, so that we can compare.


# %%
class Net(lit.LightningModule):
    def __init__(self):
        super().__init__()
        layers = torch.nn.Conv3d(1, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(8, 3, 3, padding=1)
        self.net = torch.nn.Sequential(*layers)
        self.seen = []

    def training_step(self, batch, number):
        self.seen.append(list(zip(batch["obs_id"], batch["start"].tolist(), strict=True)))
        scores = self.net((batch["image"] - 400) / 300)
        return torch.nn.functional.cross_entropy(scores, batch["label"][:, 0].long())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trained(steps, checkpoint=None):
    lit.seed_everything(0, verbose=False)
    trainer = lit.Trainer(
        max_steps=steps,
        use_distributed_sampler=False,  # the plan has dealt out the patches already
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    net = Net()
    trainer.fit(net, Heads(radi, batch_size=4), ckpt_path=checkpoint)
    return net, trainer


# %% [markdown]
# ## Without a break, and with one
#
# An epoch has four batches here. The first training makes ten steps in one go, the second stops after
# six, in the middle of its second epoch, and a new trainer with a new loader goes on. The checkpoint
# is the one that Lightning's `ModelCheckpoint` saves, too.

# %%
whole, _ = trained(steps=10)
first, trainer = trained(steps=6)
trainer.save_checkpoint(folder / "six.ckpt")
second, _ = trained(steps=10, checkpoint=folder / "six.ckpt")

assert first.seen + second.seen == whole.seen
same = all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))
print(f"{len(first.seen)} + {len(second.seen)} steps saw the same patches; equal weights: {same}")

# %% [markdown]
# The checkpoint holds plain numbers, and a digest of what makes the batches. Another version of the
# study, or another spec, is refused.

# %%
torch.load(folder / "six.ckpt", weights_only=False)["Heads"]
