"""What chapter 12 says of masks that were found in two ways."""

import numpy as np

from lottery.book import anatomy


def test_masks_found_in_two_ways_are_compared_size_by_size_and_at_the_end():
    density, row = np.array([1, 0.5, 0.1]), np.zeros((3, 1))
    early = {"resetting": row + [0.98, 0.98, 0.98], "training on": row + [0.98, 0.979, 0.97]}
    stop = {by: row + [100, 100, 100] for by in early}
    end = {by: values - 0.002 * (by == "resetting") for by, values in early.items()}
    told = anatomy.masks_in_words(density, stop, early, end)
    assert told["resetting_sizes"].startswith("50.0 %: 0.10 pp") and "10.0 %: 1.00 pp" in told["resetting_sizes"]
    assert told["resetting_end"].startswith("0.80 pp")
    nothing = {by: values[:, :0] for by, values in early.items()}
    told = anatomy.masks_in_words(density[:0], nothing, nothing, nothing)
    assert told == {
        "resetting_sizes": "not run",
        **dict.fromkeys(("resetting_end", "resetting_even_end"), "not measured"),
    }
