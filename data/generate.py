"""Writes `regatta_races.csv`, the sample that comes with Regatta: invented races, always the same.

python data/generate.py
"""

from __future__ import annotations

import csv
import datetime as dt
from pathlib import Path

import numpy as np

ROWS = 3_000
OUT = Path(__file__).resolve().parent / "regatta_races.csv"

# Minutes for 2,000 m on still water, and the crew's usual weight.
BOATS = {"single": (7.4, 82), "double": (6.9, 164), "pair": (6.95, 172), "quad": (6.3, 332),
         "four": (6.35, 340), "eight": (5.75, 690)}  # fmt: skip
COURSES = {"Lucerne": 0.0, "Henley": 0.12, "Poznan": 0.04, "Seville": -0.03, "Linz": 0.06}
WINDS = {"head": 0.085, "cross": 0.03, "tail": -0.05}  # minutes for each metre a second


def main() -> None:
    generator = np.random.default_rng(2026)
    first = dt.date(2019, 4, 1)
    with OUT.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["date", "course", "boat", "wind", "wind_speed", "water_temperature", "crew_weight",
             "crew_age", "training_hours", "stroke_rate", "final", "finish_minutes"]
        )  # fmt: skip
        for _ in range(ROWS):
            writer.writerow(race(generator, first))


def race(generator: np.random.Generator, first: dt.date) -> list[object]:
    """One race; some cells are missing, as in any real file."""
    date = first + dt.timedelta(days=int(generator.integers(0, 7 * 365)))
    boat, (still, usual) = list(BOATS.items())[generator.integers(len(BOATS))]
    course = list(COURSES)[generator.integers(len(COURSES))]
    wind = list(WINDS)[generator.integers(len(WINDS))]
    wind_speed = round(float(generator.gamma(2.0, 1.4)), 1)
    season = np.sin(2 * np.pi * (date.timetuple().tm_yday - 105) / 365)
    water = round(float(15 + 7 * season + generator.normal(0, 1.5)), 1)
    weight = round(float(usual * generator.normal(1, 0.05)))
    age = round(float(generator.normal(24, 3.5)), 1)
    hours = round(float(generator.normal(14, 4)), 1)
    rate = round(float(generator.normal(36, 2.5)), 1)
    final = bool(generator.random() < 0.3)
    minutes = (
        still
        + COURSES[course]
        + WINDS[wind] * wind_speed
        - 0.012 * (water - 15)
        - 0.6 * (weight / usual - 1)
        + 0.006 * (age - 24)
        - 0.03 * (hours - 14)
        - 0.02 * (rate - 36)
        - 0.08 * final
        + generator.normal(0, 0.09)
    )
    cells: list[object] = [date.isoformat(), course, boat, wind, wind_speed, water, weight, age,
                           hours, rate, "yes" if final else "no", f"{minutes:.3f}"]  # fmt: skip
    for place, share in ((4, 0.03), (5, 0.05), (8, 0.08)):
        if generator.random() < share:
            cells[place] = ""
    return cells


if __name__ == "__main__":
    main()
