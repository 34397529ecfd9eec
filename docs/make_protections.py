"""The figure of docs/audit.md about protections: python docs/make_protections.py AUDIT (seconds; AUDIT is the folder of the audit)

Of one layer under several numbers of bits and amounts of noise: what the inverse recovers of an attacker who knows the protection and of
one who does not, and what the protection leaves of the network's own answers.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

KINDS = {"bits": "bits a feature", "noise": "noise, in root mean squares"}
ATTACKERS = {"True": "knows the protection", "False": "does not know it"}

Row = dict[str, str]


def rows(audit: Path) -> list[Row]:
    """The table of an audit, a dictionary a row."""
    with (audit / "summary" / "audit" / "table.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def curve(table: list[Row], kind: str, known: str, column: str) -> tuple[list[float], list[float]]:
    """Amounts of a protection, ascending, and a column's numbers at them."""
    found = {
        float(row["release"].partition(":")[2]): float(row[column])
        for row in table
        if row["release"].startswith(f"{kind}:") and row["protection known"] == known
    }
    return sorted(found), [found[amount] for amount in sorted(found)]


def main(audit: Path) -> None:
    """Draw both kinds of protections side by side."""
    table = rows(audit)
    exact = next(float(row["psnr"]) for row in table if row["release"] == "exact")
    guess = next(float(row["psnr"]) for row in table if row["layer"] == "mean of the other images")
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    for axis, (kind, label) in zip(axes, KINDS.items(), strict=True):
        for (known, words), style in zip(ATTACKERS.items(), ("o-", "s--"), strict=True):
            axis.plot(*curve(table, kind, known, "psnr"), style, label=f"PSNR, attacker {words}")
        axis.axhline(exact, color="grey", linewidth=1, label="PSNR, exact features")
        axis.axhline(guess, color="grey", linewidth=1, linestyle=":", label="PSNR, guess without features")
        axis.set(xscale="log", xlabel=label)
        amounts, kept = curve(table, kind, "True", "utility")
        axis.set_xticks(amounts, [f"{amount:g}" for amount in amounts])
        axis.minorticks_off()
        other = axis.twinx()
        other.plot(amounts, kept, "^-.", color="tab:green", label="same class (right)")
        other.set(ylim=(0, 1.05), ylabel="share with the same class" if axis is axes[-1] else "")
    axes[0].set_ylabel("PSNR, dB")
    axes[0].invert_xaxis()
    lines = [*axes[0].get_lines(), *other.get_lines()]
    figure.legend(handles=lines, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(Path(__file__).parent / "images" / "audit-protections.png", dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
