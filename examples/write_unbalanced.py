"""Write unbalanced.csv into a folder of SVHN, for examples/unbalanced.yaml: `python write_unbalanced.py svhn10k`.

It lists all test images, but fewer training images from digit to digit: all zeros, a twentieth of the nines. This is
the long tail of Cui et al. 2019, arXiv:1901.05555.
"""

import csv
import sys
from pathlib import Path

RAREST = 1 / 20


def main(folder: Path) -> None:
    """Write a row for each image that is kept: its path, its class and its split."""
    with (folder / "unbalanced.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "split"])
        for of_class in sorted(folder.glob("*/*")):
            split, label = of_class.parent.name, of_class.name
            images = sorted(of_class.glob("*.png"))
            if split == "train":
                images = images[: round(len(images) * RAREST ** (int(label) / 9))]
            rows.writerows([image.relative_to(folder).as_posix(), label, split] for image in images)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
