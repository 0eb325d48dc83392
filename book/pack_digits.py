"""Writes `book/_static/lottery-digits.js`: scikit-learn's digits for the lottery on the front page.

    python book/pack_digits.py

A row of an image is eight pixels of 0 … 16, so a number in base 17 below 17⁸ < 94⁵: five characters in base 94.
"""

import json
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from lottery import data

TARGET = Path(__file__).parent / "_static" / "lottery-digits.js"
VALIDATION = 200  # as in the quick profile
ALPHABET = "".join(map(chr, range(32, 127))).replace("\\", "")
LINE = 240  # characters, six images

HEAD = """\
// The 1,797 digits of scikit-learn (Alpaydin & Kaynak 1998, UCI Machine Learning Repository, CC BY 4.0), in the
// library's parts and order. Written by book/pack_digits.py, which says how rows of pixels become characters.
"""


def parts() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pixels [N, 8, 8] of 0 … 16 and labels [N] of each part, split and ordered as `lottery.data.load` does.

    The library knows pixels rounded to 0 … 255; they are brought back to sixteenths.
    """
    dataset = data.load("digits", VALIDATION, scaling="unit")
    pairs = {part: getattr(dataset, part) for part in ("train", "validation", "test")}
    return {part: (np.rint(16 * x[:, 0].numpy()).astype(int), y.numpy()) for part, (x, y) in pairs.items()}


def pack(pixels: np.ndarray) -> str:
    """Five characters for each row [..., 8] of pixels of 0 … 16."""
    numbers = pixels.reshape(-1, 8) @ 17 ** np.arange(7, -1, -1)
    places = numbers[:, None] // 94 ** np.arange(4, -1, -1) % 94
    return "".join(ALPHABET[place] for place in places.ravel())


def script() -> str:
    """The text of `lottery-digits.js`."""
    found = parts()
    if sum(len(y) for _, y in found.values()) != len(load_digits().target):
        raise SystemExit("the library's parts of the digits are not all of scikit-learn's: look at lottery/data.py")
    rows = pack(np.concatenate([pixels for pixels, _ in found.values()]))
    lines = [json.dumps(rows[i : i + LINE]) for i in range(0, len(rows), LINE)]
    counts = ", ".join(f"{part}: {len(y)}" for part, (_, y) in found.items())
    labels = "".join(str(label) for _, y in found.values() for label in y)
    body = f'parts: {{ {counts} }},\nlabels: "{labels}",\nrows:\n' + " +\n".join(lines)
    return (
        HEAD + f"var lotteryDigits = {{\n{body}\n}};\nif (typeof module === 'object') module.exports = lotteryDigits;\n"
    )


if __name__ == "__main__":
    TARGET.write_text(script(), encoding="ascii")
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes")
