"""The 25 labels of a stay: phenotypes that its admission's discharge diagnoses belong to.

A definition file maps ICD codes to phenotypes: the benchmark's YAML, in which a phenotype has
`use_in_benchmark` and `codes` of both ICD versions, or a CSV `icd_code,icd_version,phenotype`.

    label(stay, phenotype) = 1 where any diagnosis of the admission is in the phenotype

`reproduce` compares codes alone, so a code of one version counts as its namesake of the other.
`repair` compares code and version. A code of the YAML has the version in which d_icd_diagnoses
lists it; one listed in both is ICD-9, whose groups the file was made from (HCUP CCS 2015).
In both, a diagnosis whose code d_icd_diagnoses does not list is left out, and a stay without any
diagnosis has no label.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd

from dfpl.data.extraction.cohort import Cohort
from dfpl.data.extraction.layout import Frame, Layout, read_table
from dfpl.data.extraction.variables import Recipe
from dfpl.data.packed import DataError

PHENOTYPES = (
    "Acute and unspecified renal failure",
    "Acute cerebrovascular disease",
    "Acute myocardial infarction",
    "Cardiac dysrhythmias",
    "Chronic kidney disease",
    "Chronic obstructive pulmonary disease and bronchiectasis",
    "Complications of surgical procedures or medical care",
    "Conduction disorders",
    "Congestive heart failure; nonhypertensive",
    "Coronary atherosclerosis and other heart disease",
    "Diabetes mellitus with complications",
    "Diabetes mellitus without complication",
    "Disorders of lipid metabolism",
    "Essential hypertension",
    "Fluid and electrolyte disorders",
    "Gastrointestinal hemorrhage",
    "Hypertension with complications and secondary hypertension",
    "Other liver diseases",
    "Other lower respiratory disease",
    "Other upper respiratory disease",
    "Pleurisy; pneumothorax; pulmonary collapse",
    "Pneumonia (except that caused by tuberculosis or sexually transmitted disease)",
    "Respiratory failure; insufficiency; arrest (adult)",
    "Septicemia (except in labor)",
    "Shock",
)
"""In the order of the list files."""
DEFINITIONS = "icd_9_10_definitions_2.yaml"
SOURCE = f"mimic4extract/mimic3benchmark/resources/{DEFINITIONS} of github.com/nyuad-cai/MedFuse"
KEY = ["icd_code", "icd_version"]
Definition = dict[tuple[str, str], set[str]]
"""Phenotypes of each (code, version); version is empty where the file does not tell."""


def read_definition(path: Path) -> Definition:
    """The codes of the 25 phenotypes. Raises DataError naming file, rule and what is at fault."""
    if not path.is_file():
        raise DataError(f"no file {path} that defines the phenotypes; it is {SOURCE}")
    is_table = path.suffix == ".csv"
    definition = _read_csv(path) if is_table else _read_yaml(path)
    found = set().union(*definition.values()) if definition else set()
    lacks = [name for name in PHENOTYPES if name not in found]
    if lacks or len(found) > len(PHENOTYPES):
        extra = sorted(found - set(PHENOTYPES))
        raise DataError(
            f"{path} must define the 25 phenotypes of the benchmark; missing {lacks}, unknown "
            f"{extra}; it is {SOURCE}"
        )
    return definition


def _read_csv(path: Path) -> Definition:
    definition: Definition = defaultdict(set)
    table = read_table(path, ["icd_code", "icd_version", "phenotype"]).fillna("")
    for code, version, phenotype in table.itertuples(index=False):
        if version not in ("9", "10"):
            raise DataError(f"{path}: icd_version of {code!r} must be 9 or 10, got {version!r}")
        definition[code.strip(), version].add(phenotype)
    return definition


def _read_yaml(path: Path) -> Definition:
    try:
        import yaml
    except ImportError:
        raise DataError(f"{path} needs PyYAML: install it, or give a CSV file") from None
    try:
        groups: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{path} cannot be read as YAML: {error}") from None
    if not isinstance(groups, dict) or not all(isinstance(one, dict) for one in groups.values()):
        raise DataError(f"{path} must hold phenotypes with `use_in_benchmark` and `codes`")
    definition: Definition = defaultdict(set)
    for phenotype, group in groups.items():
        for code in group.get("codes", []) if group.get("use_in_benchmark") else []:
            if not isinstance(code, str):
                raise DataError(
                    f"{path}: code {code!r} of {phenotype!r} is no text; quote it, as '0389'"
                )
            definition[code, ""].add(phenotype)
    return definition


def read_labels(layout: Layout, cohort: Cohort, definition: Definition, recipe: Recipe) -> Frame:
    """A column of 0 and 1 per phenotype, a row per stay that has a diagnosis; index: stay_id."""
    known = _coded(read_table(layout.path("hosp/d_icd_diagnoses"), KEY), recipe)
    table = _coded(read_table(layout.path("hosp/diagnoses_icd"), ["hadm_id", *KEY]), recipe)
    stays = cohort.stays[["hadm_id", "stay_id"]].astype({"hadm_id": str})
    table = table.merge(stays, on="hadm_id").merge(known.drop_duplicates(), on=KEY)
    if recipe == "repair":
        definition = _with_versions(definition, set(known.itertuples(index=False, name=None)))
    groups = [(*key, name) for key, names in definition.items() for name in names]
    pairs = pd.DataFrame(groups, columns=[*KEY, "phenotype"], dtype=str)
    hits = table.merge(_coded(pairs, recipe).drop_duplicates(), on=KEY)
    counts = pd.crosstab(hits["stay_id"], hits["phenotype"]).clip(upper=1)
    diagnosed = pd.Index(sorted(table["stay_id"].unique()), name="stay_id")
    return counts.reindex(index=diagnosed, columns=list(PHENOTYPES), fill_value=0)


def _coded(table: Frame, recipe: Recipe) -> Frame:
    """The table with clean keys; without versions where these are not to be compared."""
    keys = {name: table[name].str.strip() for name in KEY}
    return table.assign(**keys if recipe == "repair" else {**keys, "icd_version": ""})


def _with_versions(definition: Definition, listed: set[tuple[str, str]]) -> Definition:
    return {
        (code, version or ("9" if (code, "9") in listed else "10")): names
        for (code, version), names in definition.items()
    }
