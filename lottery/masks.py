"""A mask is a dict of boolean tensors, True where a weight survives; one entry for each prunable weight.

Functions return new masks and never change their arguments. Counts are exact: round(fraction · n) weights go.
"""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from itertools import pairwise
from numbers import Real

import numpy as np
import torch

from . import LotteryError

Mask = dict[str, torch.Tensor]
Fraction = float | Mapping[str, float]


class MaskError(LotteryError):
    """A request for a mask that cannot exist."""


class Unfitting(MaskError):
    """Fractions that do not fit the layers of a network."""


def dense(weights: dict[str, torch.Tensor], names) -> Mask:
    """The mask that keeps every weight of the named tensors."""
    layout = torch.contiguous_format
    return {name: torch.ones_like(weights[name], dtype=torch.bool, memory_format=layout) for name in names}


def count(mask: Mask) -> dict[str, int]:
    """Surviving weights per layer."""
    return {name: int(kept.sum()) for name, kept in mask.items()}


def density(mask: Mask) -> float:
    """The fraction of weights left, P_m in Frankle & Carbin (2019).

    Raises:
        MaskError: if there are no weights.
    """
    if not any(kept.numel() for kept in mask.values()):
        raise MaskError("a mask without layers leaves no share of the weights: all True where nothing is cut")
    return sum(count(mask).values()) / sum(kept.numel() for kept in mask.values())


def distance(mask: Mask, other: Mask) -> float:
    """The share of all weights that one mask keeps and the other cuts (You et al. 2020, a Hamming distance).

    Raises:
        MaskError: if the masks are of networks of other layers or shapes, or of none.
    """
    check_shapes({**mask, **other}, mask, other)
    if not mask:
        raise MaskError("masks without a layer have no distance")
    return sum(int((kept ^ other[name]).sum()) for name, kept in mask.items()) / sum(k.numel() for k in mask.values())


def cut_off(mask: Mask) -> tuple[int, int]:
    """How many hidden units a mask leaves without a weight that leads to them, and without one that leads on.

    Layers are a chain in the order of the mask, [units, inputs, ...] each. A unit of a convolution is a channel; behind
    it a fully connected layer has the places of a channel beside each other.
    """
    without_incoming = without_outgoing = 0
    for here, after in pairwise(mask.values()):
        without_incoming += int((~here.flatten(1).any(1)).sum())
        without_outgoing += int((~after.reshape(len(after), len(here), -1).any(2).any(0)).sum())
    return without_incoming, without_outgoing


def check_shapes(names: Iterable[str], *networks: Mapping[str, torch.Tensor]) -> None:
    """Refuses tensors of several networks that differ in shape, which PyTorch would repeat until they fit.

    Args:
        names: of the tensors that are combined.
        networks: weights, masks or scores.

    Raises:
        MaskError: naming the first tensor that differs, or that one of them lacks.
    """
    for name in names:
        shapes = [tuple(network[name].shape) if name in network else None for network in networks]
        if len({*shapes}) > 1:
            said = " and ".join("absent" if shape is None else str(list(shape)) for shape in dict.fromkeys(shapes))
            raise MaskError(f"{name} is {said}: weights and masks of networks of other shapes cannot be combined")


def apply(weights: dict[str, torch.Tensor], mask: Mask) -> dict[str, torch.Tensor]:
    """The weights with pruned ones exactly zero; tensors without a mask are passed through.

    Raises:
        MaskError: if a layer has another shape than its mask.
    """
    check_shapes([name for name in weights if name in mask], weights, mask)
    return {name: tensor * mask[name] if name in mask else tensor for name, tensor in weights.items()}


def checked(fraction: Fraction) -> float | dict[str, float]:
    """A fraction as Python's own numbers; NumPy's are taken, too.

    Raises:
        MaskError: if it is no number in [0, 1), or one of a dict is none.
    """
    if isinstance(fraction, Mapping):
        return {key: _checked(value, f" for {key!r}") for key, value in fraction.items()}
    return _checked(fraction)


def _checked(value, where: str = "") -> float:
    if not isinstance(value, Real) or not 0 <= float(value) < 1:
        raise MaskError(f"a pruned fraction must be a number in [0, 1), not {value!r}{where}")
    return float(value)


def rates(fraction: Fraction, kinds: dict[str, str]) -> dict[str, float]:
    """The fraction of each layer's survivors that goes in one round.

    Args:
        fraction: one number for all layers, or a dict whose keys are kinds ("conv", "fc", "output") or patterns of
            parameter names ("fc*.weight"). A name itself wins over patterns, the longest pattern over others, and
            any pattern over the kind, so the order of the dict does not matter.
        kinds: parameter name → kind, from `lottery.models.prunable`.

    Raises:
        MaskError: if a fraction is outside [0, 1).
        Unfitting: if a layer has none, or a key fits nothing.
    """
    given = checked(fraction)
    table = given if isinstance(given, dict) else {"*": given}
    for key in table:
        if not any(key == kind or fnmatchcase(name, key) for name, kind in kinds.items()):
            there, more = ", ".join(list(kinds)[:5]), " …" if len(kinds) > 5 else ""
            raise Unfitting(
                f"the fraction for {key!r} fits no layer; kinds: {', '.join(sorted({*kinds.values()}))}; "
                f"names: {there}{more}"
            )
    result = {}
    for name, kind in kinds.items():
        fitting = [key for key in table if fnmatchcase(name, key)]
        if not fitting and kind not in table:
            raise Unfitting(f"no fraction for layer {name!r} (kind {kind!r}); give one for its name or kind")
        result[name] = table[max(fitting, key=lambda key: (key == name, len(key), key)) if fitting else kind]
    return result


# What pruning keeps the largest of, from the weights at the start and at the end (Zhou et al. 2019, Section 2).
# large_final, the criterion of Frankle & Carbin, is called "magnitude" here.
CRITERIA = {
    "magnitude": lambda start, end: end.abs(),
    "small_final": lambda start, end: -end.abs(),
    "large_init": lambda start, end: start.abs(),
    "small_init": lambda start, end: -start.abs(),
    "magnitude_increase": lambda start, end: end.abs() - start.abs(),
    "movement": lambda start, end: (end - start).abs(),
    "large_final_same_sign": lambda start, end: start.sign() * end,
    "large_final_diff_sign": lambda start, end: -start.sign() * end,
}


def scores(
    criterion: str, start: dict[str, torch.Tensor], end: dict[str, torch.Tensor], mask: Mask
) -> dict[str, torch.Tensor]:
    """The score of each weight under a criterion, for `prune`.

    Zhou et al. give weights with the wrong sign the score 0 under "large_final_same_sign" (and "…_diff_sign") and
    break the ties at random; here they are ordered by size, the largest wrong one goes first.

    Args:
        criterion: a key of `CRITERIA`; for random pruning see `random_scores`.
        start: the weights that training started from; may be {} for the criteria that look at the end alone.
        end: the trained weights.
        mask: the layers to score.

    Returns:
        Layer → scores of the shape of the layer.

    Raises:
        MaskError: if there is no such criterion.
    """
    if criterion not in CRITERIA:
        raise MaskError(f"no criterion {criterion!r}; known: {', '.join(CRITERIA)}")
    return {name: CRITERIA[criterion](start.get(name), end[name]) for name in mask}


def magnitude_scores(weights: dict[str, torch.Tensor], mask: Mask) -> dict[str, torch.Tensor]:
    """The magnitude of each weight: what magnitude pruning keeps the largest of."""
    return scores("magnitude", {}, weights, mask)


def random_scores(mask: Mask, generator: np.random.Generator) -> dict[str, torch.Tensor]:
    """Uniform scores: what random pruning ranks by."""
    return {name: torch.from_numpy(generator.random(tuple(kept.shape))).to(kept.device) for name, kept in mask.items()}


def prune(mask: Mask, scores: dict[str, torch.Tensor], fraction: dict[str, float], scope: str = "layer") -> Mask:
    """Removes the survivors with the lowest scores.

    Args:
        mask: the present mask; the result is nested in it.
        scores: one score for each weight, same shapes.
        fraction: what part of each layer's survivors goes, from `rates`; with scope "global", layers at 0 are left
            out and the others must agree.
        scope: "layer" ranks each layer by itself (Frankle & Carbin's LeNet and Conv), "global" ranks all together.

    Returns:
        The new mask. Exactly round(fraction · survivors) weights go; among equal scores the first in memory goes.

    Raises:
        MaskError: if a layer would be left empty, scores are not finite or of another shape, a fraction is none, or
            scope and fraction contradict.
    """
    if scope not in ("layer", "global"):
        raise MaskError(f"scope must be 'layer' or 'global', not {scope!r}")
    check_shapes(mask, mask, scores)
    fraction = {name: _checked(fraction[name], f" for {name}") for name in mask}
    for name in mask:
        if not torch.isfinite(scores[name][mask[name]]).all():
            raise MaskError(f"the scores of {name} are not all finite: did training diverge?")
    groups = [[name] for name in mask]
    if scope == "global":
        groups = [[name for name in mask if fraction[name] > 0]]
        if len({fraction[name] for name in groups[0]}) > 1:
            raise MaskError("global pruning ranks all layers together: give one fraction (0 leaves a layer out)")
    result = {name: kept.clone(memory_format=torch.contiguous_format) for name, kept in mask.items()}
    for names in groups:
        if not names:
            continue
        survivors = [mask[name].flatten().nonzero().flatten() for name in names]
        values = torch.cat([scores[name].flatten()[kept] for name, kept in zip(names, survivors, strict=True)])
        gone = torch.zeros(len(values), dtype=torch.bool, device=values.device)
        gone[torch.sort(values, stable=True).indices[: round(fraction[names[0]] * len(values))]] = True
        for name, kept, drop in zip(names, survivors, gone.split([len(s) for s in survivors]), strict=True):
            result[name].view(-1)[kept[drop]] = False
            if drop.any() and not result[name].any():
                raise MaskError(f"pruning would leave layer {name} empty: prune fewer rounds, less, or leave it out")
    return result


def shuffle(mask: Mask, generator: np.random.Generator) -> Mask:
    """A random mask with the same count in each layer: the survivors of a layer are permuted among its weights."""
    result = {}
    for name, kept in mask.items():
        order = torch.from_numpy(generator.permutation(kept.numel())).to(kept.device)
        result[name] = kept.flatten()[order].view_as(kept)
    return result


def permute(weights: dict[str, torch.Tensor], mask: Mask, generator: np.random.Generator) -> dict[str, torch.Tensor]:
    """The weights with the surviving values of each layer in random places among the survivors; the rest as it was."""
    check_shapes(mask, mask, weights)
    result = dict(weights)
    for name, kept in mask.items():
        values = weights[name][kept]
        result[name] = weights[name].clone()
        result[name][kept] = values[torch.from_numpy(generator.permutation(len(values))).to(values.device)]
    return result


def pack(mask: Mask) -> dict[str, np.ndarray]:
    """One bit a weight, for storage."""
    return {name: np.packbits(kept.flatten().cpu().numpy()) for name, kept in mask.items()}


def unpack(bits: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]]) -> Mask:
    """The inverse of `pack`."""
    mask = {}
    for name, shape in shapes.items():
        flat = np.unpackbits(bits[name], count=int(np.prod(shape))).astype(bool)
        mask[name] = torch.from_numpy(flat).view(*shape)
    return mask


def to_record(mask: Mask) -> tuple[dict, dict[str, np.ndarray]]:
    """The values and arrays by which a mask is kept: density, counts, shapes; one bit a weight."""
    values = {
        "density": density(mask),
        "weights_left": count(mask),
        "shapes": {name: list(kept.shape) for name, kept in mask.items()},
    }
    return values, {f"mask/{name}": packed for name, packed in pack(mask).items()}


def from_record(record) -> Mask:
    """The mask that a record (anything with `values` and `arrays`) holds: the inverse of `to_record`."""
    bits = {name.removeprefix("mask/"): array for name, array in record.arrays.items()}
    return unpack(bits, record.values["shapes"])


def first_layer(record) -> np.ndarray:
    """The first layer of the mask that a record holds: which weights are kept."""
    return next(iter(from_record(record).values())).numpy()
