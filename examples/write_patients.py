"""Write patients.csv into a folder of class folders, for examples/patients.yaml: `python write_patients.py scenes8`.

The scenes were photographed in series with close numbers, such as cdmc181 and cdmc184. A net that has seen one image
of a series knows the others. So a series, all names that differ only in the last two digits, is a "patient" here.
"""

import csv
import re
import sys
from pathlib import Path


def main(folder: Path) -> None:
    """Write a row for each image below `folder`: its path, its class and its patient."""
    images = sorted(folder.glob("*/*/*.jpg"))
    with (folder / "patients.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "patient"])
        for image in images:
            patient = re.sub(r"\d{1,2}$", "", image.stem)
            rows.writerow([image.relative_to(folder).as_posix(), image.parent.name, patient])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
