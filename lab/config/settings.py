"""`Settings`: every setting of a trial, with its type, range, default and meaning."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["METRICS", "Settings"]

# The upper ends are beyond any use: they refuse what would fill the memory or overflow before a model is counted.
Positive = Annotated[int, Field(ge=1, le=1_000_000_000)]
Width = Annotated[int, Field(ge=1, le=1_000_000)]
Pixels = Annotated[int, Field(ge=1, le=1024)]
Padding = Annotated[int, Field(ge=0, le=1024)]
Layers = Annotated[int, Field(ge=1, le=1000)]
Widths = Annotated[tuple[Width, ...], Field(max_length=1000)]
Block = Literal["conv", "residual", "preact", "inverted_residual"]
Probability = Annotated[float, Field(ge=0, lt=1)]

#: What an epoch logs and `monitor` can watch.
METRICS: Final = (
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "epoch_test_loss",
    "epoch_test_accuracy",
)


class Settings(BaseModel):
    """The settings of a trial, each checked by itself; `TrialConfig` checks and resolves all of them together.

    Users see the docstring of a setting in `lab train --help` and in docs/REFERENCE.md.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True)

    # data
    dataset: str = "digits"
    """Dataset to train on."""
    data_dir: str | None = None
    """Folder that holds the dataset (default: ./data, or $LAB_DATA_DIR)."""
    data_digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{16}$")] | None = None
    """Digest of the files of image_folder, filled in by lab: a trial with it is trained on no others."""
    image_size: Annotated[int, Field(ge=4, le=1024)] | None = None
    """Height and width in pixels that image_folder resizes to (default: the images' own, where they are all squares of
    one size) and synthetic generates (default 32)."""
    skip_unreadable: bool = False
    """Leave out files of image_folder that cannot be read as images; else each is an error."""
    background: Literal["white", "black", "gray"] = "white"
    """What is seen where an image of image_folder is transparent: white, black or gray."""
    full_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """White in images of image_folder of more than 8 bits, e.g. 4095 for 12 (default: what the files tell)."""
    val_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Stratified share of the training images held out for validation; 0 for none."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Stratified share held out for testing where the dataset brings no test split."""
    split_seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the splits; kept apart from `seed` so that repeats share them."""
    classes: tuple[str, ...] = ()
    """Classes to keep, by name, in the order of their new labels, e.g. 0,9 (default: all)."""
    train_samples: Positive | None = None
    """Size of a class-balanced sample of the training images, drawn by `split_seed` (default: all of them)."""
    input_scale: Literal["standard", "unit", "raw"] = "standard"
    """Pixels as the model sees them: standard (mean 0, deviation 1 per channel), unit (0 to 1), raw (0 to 255)."""
    augment: tuple[str, ...] = ()
    """Augmentations of the training images, in order, e.g. random_crop,horizontal_flip."""
    crop_padding: Pixels | None = None
    """Pixels that random_crop shifts by at most (default: 4, and an eighth of images under 32 pixels)."""
    rotation_degrees: Annotated[float, Field(gt=0, le=180)] | None = None
    """Degrees that rotation turns by at most, either way (default 15)."""
    translation_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of a side that translation shifts by at most (default 0.1)."""
    cutout_size: Annotated[float, Field(gt=0, le=1)] | None = None
    """Side of the square that cutout blackens, as a share of the image's (default 0.25)."""

    # model
    preset: str | None = None
    """Named bundle of values beneath your own, e.g. lenet; `Presets` below lists them."""
    architecture: str = "cnn"
    """What builds the model."""
    stem: Literal["auto", "imagenet", "small"] = "auto"
    """First layers of a ResNet: imagenet (7x7 stride 2, pooled), small (3x3 stride 1), auto (small below 64 pixels)."""
    depth: Layers | None = None
    """Number of conv layers, all `width` filters wide (shorthand for `filters`; default 2)."""
    width: Width | None = None
    """Filters of every conv layer (shorthand for `filters`; default 32)."""
    filters: Widths | None = None
    """Filters of each conv layer, e.g. 6,16."""
    kernel_size: Pixels | tuple[Pixels, ...] = 3
    """Kernel size, one for all conv layers or one each."""
    padding: Padding | tuple[Padding, ...] | None = None
    """Zero padding, one for all conv layers or one each (default: kernel_size // 2)."""
    stride: Pixels | tuple[Pixels, ...] = 1
    """Stride, one for all conv layers or one each."""
    block: Block | tuple[Block, ...] = "conv"
    """What a conv layer is: conv, residual, preact or inverted_residual; one for all or one each."""
    block_depth: Layers = 2
    """Convolutions within a residual or preact block."""
    expansion: Layers = 3
    """Times that an inverted_residual block widens its input."""
    conv_bias: bool = True
    """Whether convolutions have a bias."""
    pool: Pixels | tuple[Pixels, ...] = 2
    """Pooling after a conv layer: window and stride, one for all or one each; 1 is none."""
    pool_type: Literal["max", "avg"] = "max"
    """Kind of pooling."""
    norm: Literal["none", "batch"] = "none"
    """Normalisation after every convolution, before its activation."""
    activation: str = "relu"
    """Activation after every conv layer."""
    conv_dropout: Probability = 0.0
    """Dropout (of whole channels) after every conv layer."""
    head: Literal["flatten", "global_avg_pool"] = "flatten"
    """How the dense part reads the last feature map."""
    dense: Widths = ()
    """Widths of the hidden dense layers, e.g. 120,84; the layer that gives the classes comes after them."""
    dense_norm: Literal["none", "batch"] = "none"
    """Normalisation after every hidden dense layer, before its activation."""
    dense_activation: str | None = None
    """Activation after every hidden dense layer (default: the same as `activation`)."""
    dropout: Probability | tuple[Probability, ...] = 0.0
    """Dropout before each dense layer but the first (or before the only one); a list gives one each."""

    init: Literal["default", "kaiming", "xavier"] = "default"
    """Initial weights: PyTorch's own, Kaiming normal or Xavier uniform (both with zero biases)."""
    init_from: str | None = None
    """Trained weights to begin with: a run id, models:/NAME/VERSION, or best:STUDY; other classes get a new head."""
    freeze: Literal["none", "all_but_head"] | Positive = "none"
    """What is not trained: none, all_but_head, or the first n blocks (a convolution with its norm, a dense layer)."""

    # optimisation
    epochs: Positive = 20
    """Most epochs to train."""
    batch_size: Positive = 128
    """Images per step."""
    optimizer: str = "adam"
    """Optimizer."""
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.001
    """Learning rate (the peak for one_cycle)."""
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Momentum of sgd and rmsprop (default 0)."""
    nesterov: bool | None = None
    """Nesterov momentum of sgd (default false)."""
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Weight decay: L2 penalty, decoupled for adamw (default 0)."""
    scheduler: str = "constant"
    """Learning-rate schedule."""
    gamma: Annotated[float, Field(gt=0, le=1)] | None = None
    """Factor on the learning rate: exponential (default 0.95), step and plateau (0.1)."""
    step_size: Positive | None = None
    """Epochs between the steps of `scheduler: step` (default 10)."""
    scheduler_patience: Annotated[int, Field(ge=0)] | None = None
    """Epochs without improvement before `scheduler: plateau` lowers the rate (default 5)."""
    scheduler_monitor: Literal[METRICS] | None = None  # type: ignore[valid-type]
    """Metric that `scheduler: plateau` watches (default: `monitor`)."""
    loss: str = "cross_entropy"
    """Training loss."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Label smoothing of the cross entropies (default 0)."""
    hard_mining_from: Positive | None = None
    """Epoch from which on the batches with the highest loss are fed once more after each epoch."""
    hard_mining_fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of an epoch's batches that hard-batch mining feeds again (default 0.1)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic: fp32, or bf16 autocast where the device supports it."""

    # stopping
    patience: Positive | None = 5
    """Epochs without improvement of `monitor` before the trial stops early; none never stops."""
    monitor: Literal[METRICS] = "val_accuracy"  # type: ignore[valid-type]  # a tuple's names, known at run time
    """Metric that selects the best weights and that patience watches."""
    mode: Literal["auto", "max", "min"] = "auto"
    """Whether `monitor` should rise or fall (auto: accuracy rises, loss falls)."""
    min_delta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Change of `monitor` that counts as an improvement; it must be more than this."""
    eval_test_every_epoch: bool = False
    """Also log epoch_test_loss and epoch_test_accuracy, as the reports' plots do; `monitor` selects."""
    log_every_n_steps: Positive | None = None
    """Also log step_loss and step_accuracy, means over so many iterations, against the iteration."""
    checkpoint_every_n_steps: Positive | None = None
    """Also write a checkpoint after so many iterations within an epoch; for epochs that take long."""
    top_k: Positive = 5
    """The k of the top-k accuracy on the test split, logged where there are more classes."""

    # run
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the initial weights, the order of the data, augmentation and dropout."""
    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:1, mps."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads (default: all cores for `train`, 1 for each worker of a sweep). Part of exact repetition:
    sums are added up in another order under another count."""
