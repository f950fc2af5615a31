"""The pictures of DVM-CAR on disk: where they lie, and in which layout."""

from os.path import exists, isdir, isfile  # those of pathlib raise for a name no file can have
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dfpl.data.raw import Report
from dfpl.data.sources._dvm_tables import Column, Frame

PICTURE_PLACES = (
    "resized_DVM",
    "resized_DVM_v2/resized_DVM",
    "resized_DVM_v2",
    "resized_DVM_clean/resized_DVM_clean",
    "resized_DVM_clean",
    "Confirmed_fronts",
    "confirmed_fronts_clean/confirmed_fronts_clean",
    "confirmed_fronts_clean",
    ".",
)
PROBES = 200
EXAMPLE = "Volvo/V50/2004/Silver/Volvo$$V50$$2004$$Silver$$96_9$$353$$image_0.jpg"


class Pictures(NamedTuple):
    """Where the pictures lie, and in which of the two layouts."""

    root: Path
    fronts: bool

    def path(self, name: str) -> str:
        """The path of a picture; the Kaggle copy took the apostrophes out of folders and files."""
        fields = name.split("$$")
        folders = fields[:1] + fields[2:3] if self.fronts else fields[:4]
        path = self.root.joinpath(*folders, name)
        if "'" in name and not exists(path):
            plain = self.root / str(path.relative_to(self.root)).replace("'", "")
            path = plain if exists(plain) else path
        return str(path)


def find_pictures(raw: Path, view: str, images: Frame, report: Report) -> Pictures | None:
    """The first folder below `raw` that has pictures of this view; none is a problem."""
    makers = sorted({str(name).split("$$")[0] for name in images["Image_name"].dropna()})
    found = [
        Pictures(raw / place, fronts)
        for place in PICTURE_PLACES
        if (fronts := _has_fronts_layout(raw / place, makers)) is not None
    ]
    usable = [pictures for pictures in found if view == "front" or not pictures.fronts]
    if usable:
        return min(usable, key=lambda pictures: pictures.fronts)
    instead = ""
    if found:
        instead = (
            f"; found the Confirmed_fronts layout (`<Brand>/<Year>`) in {found[0].root}: this is "
            "the fronts subset, set view = front or point at resized_DVM"
        )
    looked = ", ".join(str(raw / place) for place in PICTURE_PLACES)
    report.problems.append(
        f"no `<Brand>/<Model>/<Year>/<Color>/` folders under {raw} (looked in {looked}){instead}. "
        "Expected from resized_DVM_v2.zip of figshare 19586296"
    )
    return None


def _has_fronts_layout(root: Path, makers: list[str]) -> bool | None:
    """True: pictures lie in <Brand>/<Year>; False: deeper; None: this folder has no pictures."""
    brands = (root / maker for maker in makers if isdir(root / maker))
    for folder in (inner for brand in brands for inner in sorted(brand.iterdir())):
        for entry in folder.iterdir() if folder.is_dir() else ():
            if entry.is_dir():
                return False
            if entry.suffix.lower() in (".jpg", ".jpeg"):
                return True
    return None


def probe_pictures(paths: Column, report: Report) -> None:
    """Look for some of the pictures; packing looks at each."""
    places = np.unique(np.linspace(0, len(paths) - 1, PROBES).round().astype(int))
    probed = [Path(paths.iloc[place]) for place in places]
    absent = [path for path in probed if not isfile(path)]
    there = len(probed) - len(absent)
    report.counts.append(("pictures found of those probed", there, len(probed)))
    if not absent:
        return
    told = (
        f"of {len(probed)} probed image names {len(absent)} are missing; "
        f"first missing path {absent[0]}"
    )
    if there:
        report.warnings.append(told)
    else:
        report.problems.append(f"{told}; expected 1.45 M files in resized_DVM, e.g. {EXAMPLE}")
