"""`Settings`: every setting of a trial, with its type, range, default and meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["SECTIONS", "Settings"]

#: The sections of the settings in `--help` and docs/reference, each with its first setting.
SECTIONS: Final[Mapping[str, str]] = {
    "Data": "dataset",
    "Augmentation and sampling": "augment",
    "Model": "preset",
    "Initial weights": "init",
    "Training": "epochs",
    "Stopping, metrics and logging": "patience",
    "Plug-ins": "use",
    "Repetition and devices": "seed",
}

# The upper ends are beyond any use: they refuse what would fill the memory or overflow before a model is counted.
Positive = Annotated[int, Field(ge=1, le=1_000_000_000)]
Width = Annotated[int, Field(ge=1, le=1_000_000)]
Pixels = Annotated[int, Field(ge=1, le=1024)]
Padding = Annotated[int, Field(ge=0, le=1024)]
Layers = Annotated[int, Field(ge=1, le=1000)]
Widths = Annotated[tuple[Width, ...], Field(max_length=1000)]
Block = Literal["conv", "residual", "preact", "inverted_residual"]
Probability = Annotated[float, Field(ge=0, lt=1)]


class Settings(BaseModel):
    """The settings of a trial, each checked by itself; `TrialConfig` checks and resolves all of them together.

    Users see the docstring of a setting in `lab train --help` and in docs/reference.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True)

    dataset: str = "digits"
    """Dataset to train on."""
    data_dir: str | None = None
    """Folder that holds the dataset (default: ./data, or $LAB_DATA_DIR)."""
    data_digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{16}$")] | None = None
    """Digest of the data, filled in by lab: a trial that has one trains on exactly this data."""
    csv_file: str | None = None
    """CSV file of image_csv, relative to `data_dir` (default: the only .csv file there)."""
    path_column: str | None = None
    """Column of image_csv with the paths of the images, relative to `data_dir` (default: path, file, filename or
    image)."""
    image_column: str | None = None
    """Column of parquet and hf with the images (default: the only one with images)."""
    label_column: str | None = None
    """Column of image_csv, parquet and hf with the classes (default: label or class)."""
    split_column: str | None = None
    """Column of image_csv, parquet and hf that says train, val or test for each image (default: none)."""
    group_column: str | None = None
    """Column of image_csv, parquet and hf with groups, such as patients: no group is in two splits or folds
    (default: none)."""
    image_size: Annotated[int, Field(ge=4, le=1024)] | None = None
    """Height and width in pixels to which images from files are resized (default: that of the pretrained weights,
    or else the images' own size, if all are squares of one size), or that synthetic generates (default 32)."""
    resize: Literal["squash", "crop", "pad"] = "squash"
    """How images from files become square: squash stretches them, crop keeps the middle, pad adds bars of the
    colour `background`."""
    data_in_memory: bool | None = None
    """Whether decoded images stay in memory; false decodes them again for every batch (default: true if they take
    up at most a quarter of the free memory)."""
    skip_unreadable: bool = False
    """Skip files that are missing or cannot be read as images; otherwise each is an error."""
    background: Literal["white", "black", "gray"] = "white"
    """Colour behind transparent parts of images, and of the bars that `resize: pad` adds: white, black or gray."""
    full_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Value of white in images of more than 8 bits, e.g. 4095 for 12 bits (default: derived from the files)."""
    val_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Fraction of the training images held out for validation, stratified by class, if the dataset has no
    validation split; 0 for none."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Fraction of the images held out for testing, stratified by class, if the dataset has no test split."""
    split_seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the splits, separate from `seed` so that repeats share them."""
    folds: Annotated[int, Field(ge=2, le=1000)] | None = None
    """Number of folds, stratified by class, of the training images: cross-validation instead of `val_fraction`
    (default: none)."""
    fold: Annotated[int, Field(ge=0, lt=1000)] | None = None
    """Which of the folds is the validation split, from 0 to `folds` - 1; the others are trained on."""
    classes: tuple[str, ...] = ()
    """Classes to keep, by name, in the order of their new labels, e.g. 0,9 (default: all)."""
    train_samples: Positive | None = None
    """Size of a class-balanced sample of the training images, drawn with `split_seed` (default: all images)."""
    input_scale: Literal["standard", "unit", "raw", "weights"] | None = None
    """Scale of the model's input: standard (mean 0, standard deviation 1 per channel), unit (0 to 1), raw (0 to
    255) or weights (as the pretrained weights expect it; the default if there are any, else standard)."""
    augment: tuple[str, ...] = ()
    """Augmentations of the training images, in order, e.g. random_crop,horizontal_flip; mixup and cutmix must
    come last."""
    crop_padding: Pixels | None = None
    """Maximum shift by random_crop, in pixels (default: 4, or an eighth of the side for images under 32 pixels)."""
    rotation_degrees: Annotated[float, Field(gt=0, le=180)] | None = None
    """Maximum angle of rotation in either direction, in degrees (default 15)."""
    translation_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Maximum shift by translation, as a fraction of the image's side (default 0.1)."""
    cutout_size: Annotated[float, Field(gt=0, le=1)] | None = None
    """Side of the square that cutout blackens, as a fraction of the image's side (default 0.25)."""
    erasing_probability: Annotated[float, Field(gt=0, le=1)] | None = None
    """Probability that random_erasing blackens a rectangle of an image (default 0.5)."""
    crop_scale: Annotated[float, Field(gt=0, le=1)] | None = None
    """Minimum area that random_resized_crop keeps, as a fraction of the image (default 0.08)."""
    randaugment_ops: Annotated[int, Field(ge=1, le=14)] | None = None
    """Number of operations that randaugment applies to each image, one after another (default 2)."""
    randaugment_magnitude: Annotated[int, Field(ge=0, le=30)] | None = None
    """Strength of randaugment's operations, from 0 to 30 (default 9)."""
    mixup_alpha: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Mixup draws the shares of two images from Beta(alpha, alpha); a smaller alpha mixes less (default 1)."""
    cutmix_alpha: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Cutmix draws the share of the area from Beta(alpha, alpha) (default 1: all shares equally likely)."""
    sampler: Literal["shuffled", "balanced"] = "shuffled"
    """Which images make up an epoch: shuffled (each training image once) or balanced (as many, drawn with
    replacement, all classes equally likely)."""

    preset: str | None = None
    """Named bundle of settings, e.g. lenet, which your own settings override."""
    architecture: str = "cnn"
    """Network architecture; timm/NAME and torchvision/NAME are the nets of these libraries."""
    stem: Literal["auto", "imagenet", "small"] = "auto"
    """First layers of a ResNet: imagenet (7x7 stride 2, pooled), small (3x3 stride 1), auto (small below 64 pixels)."""
    depth: Layers | None = None
    """Number of conv layers, each with `width` filters (shorthand for `filters`; default 2)."""
    width: Width | None = None
    """Number of filters of every conv layer (shorthand for `filters`; default 32)."""
    filters: Widths | None = None
    """Number of filters of each conv layer, e.g. 6,16."""
    kernel_size: Pixels | tuple[Pixels, ...] = 3
    """Kernel size: one value for all conv layers, or one for each."""
    padding: Padding | tuple[Padding, ...] | None = None
    """Zero padding: one value for all conv layers, or one for each (default: kernel_size // 2)."""
    stride: Pixels | tuple[Pixels, ...] = 1
    """Stride: one value for all conv layers, or one for each."""
    block: Block | tuple[Block, ...] = "conv"
    """Kind of conv layer: conv, residual, preact or inverted_residual; one value for all, or one for each."""
    block_depth: Layers = 2
    """Number of convolutions in a residual or preact block."""
    expansion: Layers = 3
    """Factor by which an inverted_residual block widens its input."""
    conv_bias: bool = True
    """Whether convolutions have a bias."""
    pool: Pixels | tuple[Pixels, ...] = 2
    """Pooling window and stride after a conv layer: one value for all, or one for each; 1 for none."""
    pool_type: Literal["max", "avg"] = "max"
    """Kind of pooling: max or avg."""
    norm: Literal["none", "batch"] = "none"
    """Normalisation after every convolution, before its activation: none or batch."""
    activation: str = "relu"
    """Activation after every conv layer."""
    conv_dropout: Probability = 0.0
    """Dropout of whole channels after every conv layer."""
    head: Literal["flatten", "global_avg_pool"] = "flatten"
    """How the last feature map is passed to the dense layers: flatten or global_avg_pool."""
    dense: Widths = ()
    """Widths of the hidden dense layers, e.g. 120,84; the output layer follows them."""
    dense_norm: Literal["none", "batch"] = "none"
    """Normalisation after every hidden dense layer, before its activation: none or batch."""
    dense_activation: str | None = None
    """Activation after every hidden dense layer (default: the same as `activation`)."""
    dropout: Probability | tuple[Probability, ...] = 0.0
    """Dropout before every dense layer except the first (or before the only one); a list gives one value for
    each layer."""

    init: Literal["default", "kaiming", "xavier"] = "default"
    """Initial weights: default (PyTorch's), kaiming (normal) or xavier (uniform); the latter two with zero biases."""
    pretrained: bool | str | None = None
    """Weights that a timm net starts from: true for those that timm publishes (`--download` fetches them), or a
    .safetensors or .pth file; if they have another number of classes, the head is new."""
    weights: str | None = None
    """Weights that a torchvision net starts from: DEFAULT or a name such as IMAGENET1K_V1 for those that
    torchvision publishes (`--download` fetches them), or a .safetensors or .pth file; if they have another
    number of classes, the head is new."""
    weights_digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{16}$")] | None = None
    """Digest of the file of weights, filled in by lab: a trial that has one starts from exactly these weights."""
    init_from: str | None = None
    """Trained weights to start from: a run id, models:/NAME/VERSION, or best:STUDY; if the classes differ, the
    head is new."""
    freeze: Literal["none", "all_but_head"] | Positive = "none"
    """Layers that are not trained: none, all_but_head, or the first n blocks (a convolution with its norm, or a
    dense layer; a stage of a timm or torchvision net)."""

    epochs: Positive = 20
    """Maximum number of epochs."""
    batch_size: Positive = 128
    """Images per step."""
    accumulate: Positive = 1
    """Batches per optimizer step, whose gradients are averaged over all their images; an epoch's last step may have
    fewer."""
    optimizer: str = "adam"
    """Optimizer."""
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.001
    """Learning rate (for one_cycle, its peak)."""
    backbone_lr_factor: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = 1.0
    """Factor for the learning rate of everything but the head, e.g. 0.1 to fine-tune pretrained weights."""
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Momentum for sgd and rmsprop (default 0), and muon (default 0.95)."""
    nesterov: bool | None = None
    """Use Nesterov momentum with sgd (default false) or muon (default true)."""
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Weight decay: an L2 penalty, decoupled for adamw, lion and muon (default 0)."""
    clip_grad_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Maximum norm of the gradient of all weights together; a larger one is scaled down to it (default: no
    limit)."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay per step of an exponential moving average of the weights, e.g. 0.99; the averaged weights are then
    evaluated and kept (default: no average)."""
    scheduler: str = "constant"
    """Learning-rate schedule."""
    warmup_epochs: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    """Epochs of warm-up before the schedule: the learning rate rises linearly, step by step, to where the schedule
    begins."""
    gamma: Annotated[float, Field(gt=0, le=1)] | None = None
    """Factor by which the schedule multiplies the learning rate: exponential (default 0.95), step and plateau
    (default 0.1)."""
    step_size: Positive | None = None
    """Epochs between the steps of `scheduler: step` (default 10)."""
    scheduler_patience: Annotated[int, Field(ge=0)] | None = None
    """Epochs without improvement before `scheduler: plateau` lowers the learning rate (default 5). Set it
    below `patience`, or `patience` to none: otherwise training ends first."""
    scheduler_monitor: str | None = None
    """Metric that `scheduler: plateau` watches (default: `monitor`)."""
    loss: str = "cross_entropy"
    """Training loss."""
    focal_gamma: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """How strongly the focal loss discounts images that are classified well; 0 is cross-entropy (default 2)."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Share of every label that is spread evenly over all classes (default 0)."""
    hard_mining_from: Positive | None = None
    """Epoch from which the batches with the highest loss are trained on once more after each epoch."""
    hard_mining_fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    """Fraction of an epoch's batches that hard mining repeats (default 0.1)."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic: fp32, or autocast to bf16 (fast on GPUs, and CPUs with AVX512-BF16 or AMX) or fp16 (scaled loss)."""
    compile: bool = False
    """Compile the model with torch.compile: the first steps take longer, later ones may be faster, mostly on GPUs."""

    patience: Positive | None = 5
    """Epochs without improvement of `monitor` before early stopping; none disables it."""
    monitor: str = "val_accuracy"
    """Metric that selects the best weights and decides on early stopping, e.g. val_loss, or val_auroc with
    `metrics: auroc`."""
    mode: Literal["auto", "max", "min"] = "auto"
    """Whether a higher (max) or lower (min) `monitor` is better (auto: as suits the metric, e.g. higher accuracy,
    lower loss)."""
    min_delta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Minimum change of `monitor` that counts as an improvement (the change must exceed it)."""
    metrics: tuple[str, ...] = ()
    """Metrics in addition to loss and accuracy, e.g. auroc,ece: on the validation images after every epoch
    (val_auroc), and on the test images at the end (test_auroc)."""
    eval_test_every_epoch: bool = False
    """Also log epoch_test_loss and epoch_test_accuracy after every epoch; `monitor` still selects the weights."""
    log_every_n_steps: Positive | None = None
    """Also log step_loss and step_accuracy, averaged over this many iterations, against the iteration."""
    checkpoint_every_n_steps: Positive | None = None
    """Also write a checkpoint after this many iterations within an epoch; useful if epochs take long."""
    top_k: Positive = 5
    """The k of the top-k accuracy on the test split, which is logged if there are more than k classes."""

    use: tuple[str, ...] = ()
    """Plug-ins to load first: your own modules, e.g. my_nets or ./my_nets.py, which register nets, data, losses and
    more."""
    code_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")] | None = None
    """Digest of the plug-ins' code, filled in by lab: other code makes another trial."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the initial weights, the order of the data, augmentation and dropout."""
    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:1, mps."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads (default: all cores for `train`, 1 for each worker of a sweep). Exact repetition needs the
    same number, because it changes the order in which sums are added."""
