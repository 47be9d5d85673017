"""Which configs are the same amount of work."""

from __future__ import annotations

import json
from typing import Final

from lab.config.trial import TrialConfig

__all__ = ["workload"]

# They change what is learnt, or how many epochs are trained, but not how long an epoch takes. A setting that is not
# named here, such as any of a plug-in, may do so.
_NOT_TIMED: Final = frozenset(
    {
        *("seed", "split_seed", "fold", "init", "preset", "use", "code_digest", "top_k"),
        *("epochs", "patience", "monitor", "mode", "min_delta"),
        *(
            "lr",
            "backbone_lr_factor",
            "momentum",
            "nesterov",
            "weight_decay",
            "label_smoothing",
            "focal_gamma",
        ),
        *("scheduler", "warmup_epochs", "gamma", "step_size", "scheduler_patience", "scheduler_monitor"),
        *("init_from", "pretrained", "weights", "weights_digest"),
    }
)


def workload(config: TrialConfig) -> str:
    """Return what decides how long an epoch of `config` takes on a machine, as text: the same for equal work."""
    values = config.model_dump(mode="json", exclude=set(_NOT_TIMED))
    return json.dumps(values, sort_keys=True)
