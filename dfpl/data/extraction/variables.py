"""From chart and laboratory items to the 17 variables: units, spellings, plausible values.

`reproduce` does what the reference extraction does (nyuad-cai/MedFuse @ 3f8b54ec, mimic4extract):

    capillary refill, GCS total   no item is mapped: both are always empty
    FiO2                          every value / 100, right for 40 and wrong for 0.4
    height                        inches (226707) stay inches
    temperature                   (value - 32) * 5/9 where value >= 79, whatever the item
    outliers                      stay, 999999 among them

`repair`:

    capillary refill              items 223951 and 224308: normal 0.0, abnormal 1.0
    GCS total                     eye + motor + verbal of the same moment; an intubated patient's
                                  verbal response counts 1, as in the benchmark's 1.0 ET/Trach
    FiO2                          / 100 where value > 1
    height                        * 2.54 for item 226707
    temperature                   as Fahrenheit by item (223761), and where value >= 79
    outliers                      empty where no living adult has such a value (`PLAUSIBLE`)

In both, saturations up to 1 are fractions, pounds become kilograms, and what should be a number and
is none (`ERROR`) is left out.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from dfpl.data.episodes import EYE, MOTOR, VARIABLES, VERBAL

Recipe = Literal["reproduce", "repair"]

CAPILLARY, FIO2, HEIGHT = "Capillary refill rate", "Fraction inspired oxygen", "Height"
EYE_NAME, MOTOR_NAME = "Glascow coma scale eye opening", "Glascow coma scale motor response"
TOTAL_NAME, VERBAL_NAME = "Glascow coma scale total", "Glascow coma scale verbal response"
NAMES = [variable.name for variable in VARIABLES]
ITEMS = {
    CAPILLARY: (223951, 224308),
    "Diastolic blood pressure": (220051, 225310, 220180, 224643),
    FIO2: (223835,),
    EYE_NAME: (220739,),
    MOTOR_NAME: (223901,),
    VERBAL_NAME: (223900,),
    "Glucose": (50931, 50809, 51478, 225664, 220621, 226537),
    "Heart Rate": (220045,),
    HEIGHT: (226707, 226730),
    "Mean blood pressure": (220052, 225312, 224322, 220181),
    "Oxygen saturation": (220277, 220227, 50817),
    "Respiratory rate": (220210, 224689, 224422, 224690),
    "Systolic blood pressure": (220050, 225309, 220179, 224167, 227243),
    "Temperature": (223762, 223761),
    "Weight": (224639, 226512, 226531),
    "pH": (50820, 50831, 51491, 51094, 223830, 220274),
}
"""Items of each variable. Below 200000 they are laboratory items."""
INCHES, FAHRENHEIT, POUNDS = 226707, 223761, 226531
TEXTS = (CAPILLARY, EYE_NAME, MOTOR_NAME, VERBAL_NAME)
REFILL = {"Normal <3 Seconds": "0.0", "Abnormal >3 Seconds": "1.0"}
REFILL |= {"Normal <3 secs": "0.0", "Abnormal >3 secs": "1.0", "Brisk": "0.0", "Delayed": "1.0"}
LEVELS = {
    name: dict(zip(texts, texts, strict=True))
    for name, texts in ((EYE_NAME, EYE), (MOTOR_NAME, MOTOR), (VERBAL_NAME, VERBAL))
} | {CAPILLARY: REFILL}
"""What is charted, and the level that is written."""
PLAUSIBLE = {
    "Diastolic blood pressure": (0, 300),
    FIO2: (0.2, 1),
    "Glucose": (1, 2500),
    "Heart Rate": (0, 350),
    HEIGHT: (50, 275),
    "Mean blood pressure": (0, 350),
    "Oxygen saturation": (0, 100),
    "Respiratory rate": (0, 150),
    "Systolic blood pressure": (0, 400),
    "Temperature": (14, 47),
    "Weight": (15, 650),
    "pH": (6, 8.5),
}
"""Wide enough for every value that a living adult has been found with; our choice."""
POINTS = {
    EYE_NAME: {"None": 1, "To Pain": 2, "To Speech": 3, "Spontaneously": 4},
    MOTOR_NAME: {
        **{"No response": 1, "Abnormal extension": 2, "Abnormal Flexion": 3},
        **{"Flex-withdraws": 4, "Localizes Pain": 5, "Obeys Commands": 6},
    },
    VERBAL_NAME: {
        **{"No Response": 1, "No Response-ETT": 1, "Incomprehensible sounds": 2},
        **{"Inappropriate Words": 3, "Confused": 4, "Oriented": 5},
    },
}


def mapped_items(recipe: Recipe) -> dict[int, str]:
    """The variable of each item that is read."""
    read = {name: items for name, items in ITEMS.items() if recipe == "repair" or name != CAPILLARY}
    return {item: name for name, items in read.items() for item in items}


def cleaned(
    name: str, items: Int[np.ndarray, " N"], values: Float[np.ndarray, " N"], recipe: Recipe
) -> Float[np.ndarray, " N"]:
    """Numbers of one variable in the benchmark's units, NaN where there is none to keep."""
    repair = recipe == "repair"
    if name == FIO2:
        values = np.where((values > 1) | (not repair), values / 100, values)
    elif name == HEIGHT and repair:
        values = np.where(items == INCHES, values * 2.54, values)
    elif name == "Oxygen saturation":
        values = np.where(values <= 1, values * 100, values)
    elif name == "Temperature":
        fahrenheit = (values >= 79) | (repair & (items == FAHRENHEIT))
        values = np.where(fahrenheit, (values - 32) * 5 / 9, values)
    elif name == "Weight":
        values = np.where(items == POUNDS, values * 0.453592, values)
    if repair:
        low, high = PLAUSIBLE[name]
        values = np.where((values >= low) & (values <= high), values, np.nan)
    return values
