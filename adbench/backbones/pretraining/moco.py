"""MoCo v2, 800 epochs (Chen et al., Improved Baselines with Momentum Contrastive Learning, 2020).

Container: {epoch, arch, state_dict, optimizer}. Keys: `module.encoder_q.*` is torchvision's ResNet-50 and is kept
without the prefix, but its `fc.0` and `fc.2` (the projection head) are dropped, as are the momentum encoder
`module.encoder_k.*` and the queue (`module.queue`, `module.queue_ptr`).
Preprocessing: ImageNet mean and standard deviation.
"""

from adbench.backbones.pretraining import Pretraining, layout, register

register("moco")(
    Pretraining(
        name="moco",
        file="moco_v2_800ep_pretrain.pth.tar",
        url="https://dl.fbaipublicfiles.com/moco/moco_checkpoints/moco_v2_800ep/moco_v2_800ep_pretrain.pth.tar",
        source="https://github.com/facebookresearch/moco",
        license="CC-BY-NC-4.0",
        megabytes=370,
        convert=layout("module.encoder_q.", ("module.encoder_q.fc.", "module.encoder_k.", "module.queue")),
    )
)
