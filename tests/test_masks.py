"""Masks: exact counts, nesting, fixed ties, no silent emptying, and the papers' densities."""

from types import MappingProxyType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lottery import controls, landscape, masks, models, recipes, seeds, signs, tickets
from lottery.masks import MaskError

SIZES = st.lists(st.integers(2, 40), min_size=1, max_size=4)
FRACTIONS = st.floats(0, 0.9)


def layers(sizes, seed=0, values=None):
    """Weights of layers of these sizes; drawn from `values` if given, so that ties are frequent."""
    draw = np.random.default_rng(seed)
    drawn = [draw.normal(size=n) if values is None else draw.choice(values, size=n) for n in sizes]
    return {f"layer{i}": torch.from_numpy(w.astype(np.float32)) for i, w in enumerate(drawn)}


def pruned(mask, weights, fraction, scope="layer"):
    table = dict.fromkeys(mask, fraction) if isinstance(fraction, float) else fraction
    return masks.prune(mask, masks.magnitude_scores(weights, mask), table, scope)


def total(mask):
    return sum(masks.count(mask).values())


# Shapes: what PyTorch would repeat, or takes in part, is refused.

GREY, COLOUR = torch.randn(4, 1, 3, 3), torch.randn(4, 3, 3, 3)


class Here:
    """A world of one layer."""

    def network(self, training):
        module = nn.Module()
        module.register_parameter("weight", nn.Parameter(COLOUR.clone()))
        return module


@recipes.frozen
class ForChannels(recipes.Weights):
    """Weights for so many channels."""

    channels: int

    def tensors(self, world, training):
        return {"weight": GREY if self.channels == 1 else COLOUR}


@recipes.frozen
class CutForChannels(recipes.Mask):
    """The mask of positive weights for so many channels."""

    channels: int

    def tensors(self, world, training):
        return {"weight": (GREY if self.channels == 1 else COLOUR) > 0}


TRAINING = recipes.Training("digits", "conv-2", 1, 50, "sgd", 0.1)
COMBINED = {
    "masked": recipes.Masked(ForChannels(3), CutForChannels(1)),
    "signed": recipes.Signed(ForChannels(3), ForChannels(1)),
    "signed by more": recipes.Signed(ForChannels(1), ForChannels(3)),
    "hybrid": signs.Hybrid(ForChannels(3), ForChannels(1)),
    "reshuffled": recipes.Reshuffled(ForChannels(3), CutForChannels(1), 0),
    "flipped signs": signs.FlippedSigns(ForChannels(3), CutForChannels(1), 0.5, 0),
    "rescaled": controls.Rescaled(ForChannels(3), CutForChannels(3), ForChannels(1), CutForChannels(3)),
    "perturbed": landscape.Perturbed(ForChannels(3), CutForChannels(3), ForChannels(1), 0),
    "perturbed along": landscape.Perturbed(ForChannels(3), CutForChannels(3), ForChannels(3), 0, along=ForChannels(1)),
    "spliced": controls.Spliced(CutForChannels(3), CutForChannels(1), ("weight",)),
}


@pytest.mark.parametrize("kind", COMBINED)
def test_tensors_of_other_shapes_are_never_combined(kind):
    with pytest.raises(MaskError, match=r"weight is \[4, [13], 3, 3\] and \[4, [13], 3, 3\]"):
        COMBINED[kind].tensors(Here(), TRAINING)


@pytest.mark.parametrize(
    "combine",
    [
        lambda grey, colour: masks.apply(colour, {"weight": grey["weight"] > 0}),
        lambda grey, colour: masks.distance({"weight": grey["weight"] > 0}, {"weight": colour["weight"] > 0}),
        lambda grey, colour: masks.prune({"weight": grey["weight"] > 0}, colour, {"weight": 0.5}),
        lambda grey, colour: landscape.distance(grey, colour, {"weight": colour["weight"] > 0}),
        lambda grey, colour: signs.ternary(colour, {"weight": grey["weight"] > 0}),
        lambda grey, colour: masks.permute({}, {"weight": grey["weight"] > 0}, np.random.default_rng(0)),
    ],
)
def test_functions_of_several_networks_refuse_other_shapes(combine):
    with pytest.raises(MaskError, match="of networks of other shapes cannot be combined"):
        combine({"weight": GREY}, {"weight": COLOUR})


def test_a_layer_that_only_one_of_two_masks_has_is_refused_whichever_has_it():
    one = {"a": torch.ones(2, 2, dtype=torch.bool)}
    more = one | {"b": torch.zeros(9, 9, dtype=torch.bool)}
    for pair in ((one, more), (more, one)):
        with pytest.raises(MaskError, match=r"b is (\[9, 9\] and absent|absent and \[9, 9\])"):
            masks.distance(*pair)


# Counts, nesting, order: properties.


@given(SIZES, FRACTIONS, st.integers(0, 99))
def test_layer_by_layer_exactly_the_rounded_fraction_of_each_layer_goes(sizes, fraction, seed):
    weights = layers(sizes, seed)
    try:
        mask = pruned(masks.dense(weights, weights), weights, fraction)
    except MaskError:
        assert any(round(fraction * n) == n for n in sizes)
        return
    assert masks.count(mask) == {f"layer{i}": n - round(fraction * n) for i, n in enumerate(sizes)}


@given(SIZES, FRACTIONS, st.integers(0, 99))
def test_globally_exactly_the_rounded_fraction_of_all_weights_goes(sizes, fraction, seed):
    weights = layers(sizes, seed)
    try:
        mask = pruned(masks.dense(weights, weights), weights, fraction, "global")
    except MaskError as error:
        assert "empty" in str(error)
        return
    assert total(mask) == sum(sizes) - round(fraction * sum(sizes))


@given(SIZES, st.floats(0, 0.5), st.integers(0, 99), st.sampled_from(["layer", "global"]))
def test_masks_are_nested_even_if_pruned_weights_have_the_largest_scores(sizes, fraction, seed, scope):
    weights = layers(sizes, seed)
    before = masks.dense(weights, weights)
    try:
        for _ in range(3):
            after = pruned(before, weights, fraction, scope)
            assert all(not (after[name] & ~before[name]).any() for name in after)
            weights = {name: torch.where(after[name], w, 1e6) for name, w in weights.items()}
            before = after
    except MaskError as error:
        assert "empty" in str(error)


@given(SIZES, FRACTIONS, st.integers(0, 99))
def test_no_weight_that_goes_is_larger_than_one_that_stays(sizes, fraction, seed):
    weights = layers(sizes, seed, values=[-2, -1, 0, 1, 2])
    try:
        mask = pruned(masks.dense(weights, weights), weights, fraction, "global")
    except MaskError:
        return
    stay = torch.cat([weights[name][kept].abs() for name, kept in mask.items()])
    go = torch.cat([weights[name][~kept].abs() for name, kept in mask.items()])
    assert len(go) == 0 or go.max() <= stay.min()


@given(SIZES, st.integers(0, 99))
def test_pruning_changes_none_of_its_arguments(sizes, seed):
    weights = layers(sizes, seed)
    mask = masks.dense(weights, weights)
    copies = {name: (kept.clone(), weights[name].clone()) for name, kept in mask.items()}
    pruned(mask, weights, 0.4)
    assert all(torch.equal(mask[n], kept) and torch.equal(weights[n], w) for n, (kept, w) in copies.items())


@given(SIZES, st.integers(0, 99))
def test_packed_masks_come_back(sizes, seed):
    mask = {name: w > 0 for name, w in layers(sizes, seed).items()}
    back = masks.unpack(masks.pack(mask), {name: tuple(kept.shape) for name, kept in mask.items()})
    assert all(torch.equal(back[name], kept) for name, kept in mask.items())


# Ties, signs and impossible requests: cases.


def test_among_equal_scores_the_first_in_memory_goes():
    weights = {"a": torch.ones(2, 3), "b": torch.ones(4)}
    mask = pruned(masks.dense(weights, weights), weights, 0.4, "global")
    assert mask["a"].tolist() == [[False, False, False], [False, True, True]]
    assert mask["b"].all()


def test_the_sign_of_a_weight_does_not_matter():
    weights = {"w": torch.tensor([-3.0, 1.0, -1.5, 2.0])}
    assert pruned(masks.dense(weights, weights), weights, 0.5)["w"].tolist() == [True, False, False, True]


def test_a_pruned_weight_never_returns_and_never_counts_again():
    mask, weights = {"w": torch.tensor([False, True, True, True, True])}, {"w": torch.tensor([9.0, 1.0, 2.0, 3.0, 4.0])}
    assert pruned(mask, weights, 0.25)["w"].tolist() == [False, False, True, True, True]


def test_a_layer_that_would_be_left_empty_is_an_error_that_names_it():
    weights = {"big": torch.full((10,), 5.0), "small": torch.full((2,), 0.1)}
    with pytest.raises(MaskError, match="leave layer small empty"):
        pruned(masks.dense(weights, weights), weights, 0.5, "global")


def test_a_layer_that_was_empty_before_is_left_so_and_a_mask_of_no_layers_has_no_density():
    mask = {"none": torch.zeros(4, dtype=torch.bool), "some": torch.ones(4, dtype=torch.bool)}
    weights = dict.fromkeys(mask, torch.arange(4.0))
    assert masks.count(pruned(mask, weights, {"none": 0.0, "some": 0.5})) == {"none": 0, "some": 2}
    with pytest.raises(MaskError, match="without layers"):
        masks.density({})


def test_weights_may_lie_in_memory_in_any_order():
    weights = {
        "filters": torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last),
        "matrix": torch.randn(6, 5).t(),
    }
    rows = {name: w.contiguous() for name, w in weights.items()}
    given = {name: w > 0 for name, w in weights.items()}
    for mask in (masks.dense(weights, weights), given):
        found, expected = pruned(mask, weights, 0.5), pruned({n: m.contiguous() for n, m in mask.items()}, rows, 0.5)
        assert all(torch.equal(found[name], kept) for name, kept in expected.items())


def test_scores_of_a_diverged_training_are_an_error():
    weights = {"w": torch.tensor([1.0, float("nan")])}
    with pytest.raises(MaskError, match="finite"):
        pruned(masks.dense(weights, weights), weights, 0.5)


def test_global_pruning_with_a_fraction_per_layer_is_an_error():
    weights = layers([10, 10])
    with pytest.raises(MaskError, match="one fraction"):
        pruned(masks.dense(weights, weights), weights, {"layer0": 0.2, "layer1": 0.1}, "global")


def test_global_pruning_leaves_out_a_layer_at_zero():
    weights = {"a": torch.full((10,), 0.1), "b": torch.ones(10)}
    mask = pruned(masks.dense(weights, weights), weights, {"a": 0.0, "b": 0.5}, "global")
    assert masks.count(mask) == {"a": 10, "b": 5}


def test_an_unknown_scope_is_an_error():
    weights = layers([4])
    with pytest.raises(MaskError, match="scope"):
        pruned(masks.dense(weights, weights), weights, 0.5, "everywhere")


def test_applying_a_mask_gives_exact_zeros_and_passes_biases_through():
    weights = {"w": torch.tensor([-1.0, 2.0]), "b": torch.tensor([3.0])}
    masked = masks.apply(weights, {"w": torch.tensor([False, True])})
    assert masked["w"].tolist() == [0.0, 2.0] and masked["b"] is weights["b"]


# Fractions per layer.

KINDS = {"conv1.weight": "conv", "fc1.weight": "fc", "fc2.weight": "fc", "output.weight": "output"}


def test_one_fraction_holds_for_all_layers():
    assert masks.rates(0.2, KINDS) == dict.fromkeys(KINDS, 0.2)


def test_fractions_by_kind():
    assert list(masks.rates({"conv": 0.1, "fc": 0.2, "output": 0.1}, KINDS).values()) == [0.1, 0.2, 0.2, 0.1]


@pytest.mark.parametrize("turn", [1, -1])
def test_a_name_wins_over_a_pattern_and_a_pattern_over_a_kind_in_any_order(turn):
    table = {"fc1.weight": 0.5, "fc*.weight": 0.4, "fc": 0.3, "output": 0.2, "conv": 0.1}
    assert list(masks.rates(dict(list(table.items())[::turn]), KINDS).values()) == [0.1, 0.5, 0.4, 0.2]


@pytest.mark.parametrize(
    "bad, words",
    [
        (1.0, "in \\[0, 1\\)"),
        (-0.1, "in \\[0, 1\\)"),
        ({"conv": 0.1, "fc": 0.2}, "no fraction for layer 'output.weight'"),
        ({"*": 0.1, "pool": 0.2}, "'pool' fits no layer"),
    ],
)
def test_fractions_that_cannot_be_are_errors(bad, words):
    with pytest.raises(MaskError, match=words):
        masks.rates(bad, KINDS)


# Random masks.


@given(SIZES, st.integers(0, 99))
def test_shuffled_masks_keep_the_count_of_each_layer(sizes, seed):
    mask = {name: w > 0.5 for name, w in layers(sizes, seed).items()}
    assert masks.count(masks.shuffle(mask, np.random.default_rng(seed))) == masks.count(mask)


def test_the_distance_of_masks_is_the_share_of_weights_that_one_keeps_and_the_other_cuts():
    mask = {"a": torch.tensor([[True, False], [True, True]]), "b": torch.tensor([[True]])}
    other = {"a": torch.tensor([[True, True], [False, True]]), "b": torch.tensor([[False]])}
    assert masks.distance(mask, other) == masks.distance(other, mask) == 3 / 5
    assert masks.distance(mask, mask) == 0


def test_shuffled_masks_differ_from_the_mask_and_from_draw_to_draw():
    mask = {"w": torch.arange(400).view(20, 20) < 80}
    first, second = (masks.shuffle(mask, seeds.generator(0, seeds.MASK, 0, draw))["w"] for draw in (1, 2))
    assert not torch.equal(first, mask["w"]) and not torch.equal(first, second)


def test_shuffled_masks_are_spread_evenly():
    mask = {"w": torch.arange(400).view(20, 20) < 80}  # the first 4 of 20 rows
    draws = [masks.shuffle(mask, seeds.generator(0, seeds.MASK, 0, draw))["w"].float() for draw in range(200)]
    frequency = torch.stack(draws).mean(0)
    assert abs(frequency[:4].mean() - 0.2) < 0.02 and abs(frequency[4:].mean() - 0.2) < 0.02


def test_units_without_weights_are_counted_through_layers_of_all_kinds():
    mask = {
        "conv1": torch.ones(3, 1, 2, 2, dtype=torch.bool),
        "conv2": torch.ones(2, 3, 2, 2, dtype=torch.bool),
        "fc": torch.ones(4, 2 * 9, dtype=torch.bool),
        "output": torch.ones(10, 4, dtype=torch.bool),
    }
    assert masks.cut_off(mask) == (0, 0)
    mask["conv1"][0] = False  # no way to a channel
    mask["conv2"][:, 1] = False  # none on from another
    mask["fc"][:, 9:17] = False  # one place of its last channel is left
    mask["fc"][2] = False
    mask["output"][3] = False  # classes are not hidden
    assert masks.cut_off(mask) == (2, 1)
    mask["fc"][:, 17] = False
    assert masks.cut_off(mask) == (2, 2)


# Rows of embeddings for padding, in which no weight can act.


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.out = nn.Embedding(6, 8, padding_idx=2), nn.Linear(8, 6)


class OfWords:
    """A world of this network."""

    def network(self, training):
        return Words()

    def state(self, run, step):
        return Words().state_dict()


@recipes.frozen
class ForWords(recipes.Weights):
    """Its weights."""

    def tensors(self, world, training):
        return Words().state_dict()


@recipes.frozen
class CutWords(recipes.Mask):
    """A mask of so many weights of words, and so many of the row for padding."""

    kept: int
    padded: int

    def tensors(self, world, training):
        words, out = torch.zeros(2, 6, 8, dtype=torch.bool)
        words.view(-1)[torch.tensor([i * 7 % 48 for i in range(48) if i * 7 % 48 // 8 != 2])[: self.kept]] = True
        words[2, : self.padded] = True
        out.view(-1)[::3] = True
        return {"words.weight": words, "out.weight": out}


def acting(mask):
    """The words that are none for padding."""
    return mask["words.weight"][[0, 1, 3, 4, 5]]


@pytest.mark.parametrize("padded", [0, 3, 8])
@pytest.mark.parametrize("control", [recipes.Shuffled, controls.Complement, controls.DegreePreserving])
def test_random_masks_have_the_row_for_padding_as_another_has_it(control, padded):
    of = CutWords(13, padded)
    mask = of.tensors(OfWords(), TRAINING)
    for draw in range(8):
        found = control(of, 0, draw).tensors(OfWords(), TRAINING)
        assert list(found) == list(mask) and masks.count(found) == masks.count(mask)
        assert torch.equal(found["words.weight"][2], mask["words.weight"][2])
        assert acting(found).sum() == acting(mask).sum()
        assert not torch.equal(found["out.weight"], mask["out.weight"])
        if control is controls.DegreePreserving:
            assert all(torch.equal(acting(found).sum(axis), acting(mask).sum(axis)) for axis in (0, 1))


def test_a_complement_needs_room_outside_the_row_for_padding():
    with pytest.raises(controls.ControlError, match=r"words\.weight keeps 21 of 40 weights"):
        controls.Complement(CutWords(21, 0), 0).tensors(OfWords(), TRAINING)


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("criterion", ["thinned", "random", "small_final", "movement", "large_final_same_sign"])
def test_every_round_takes_the_row_for_padding_first_as_that_by_magnitude_does(criterion, scope):
    dense = recipes.Run(TRAINING, ForWords(), recipes.Dense(), (0,))
    for draw in range(4):
        if criterion == "thinned":
            found = recipes.Thinned(recipes.Dense(), 0.3, 0, draw, scope).tensors(OfWords(), TRAINING)
        else:
            values, bits = recipes.Pruned(dense, 0.3, scope, criterion, draw).compute(OfWords())
            shapes = values["shapes"]
            found = masks.unpack({name.removeprefix("mask/"): array for name, array in bits.items()}, shapes)
        assert sum(masks.count(found).values()) == (68 if scope == "layer" else 67)
        assert not found["words.weight"][2].any() and acting(found).any()


# The densities that the paper prints (Frankle & Carbin 2019): a check of rates, rounding and layer sizes at once.


@pytest.mark.parametrize(
    "model, shape, fractions, printed",
    [
        ("lenet-300-100", (1, 28, 28), {"fc": 0.2, "output": 0.1}, {3: 51.28, 7: 21.07, 9: 13.52, 15: 3.58, 16: 2.87}),
        ("conv-2", (3, 32, 32), {"conv": 0.1, "fc": 0.2, "output": 0.1}, {11: 8.81, 14: 4.57}),
        ("conv-4", (3, 32, 32), {"conv": 0.1, "fc": 0.2, "output": 0.1}, {11: 11.06, 12: 9.18, 15: 5.37}),
    ],
)
def test_densities_of_iterative_pruning_are_those_of_the_paper(model, shape, fractions, printed):
    kinds = models.prunable(models.build(model, shape, 10))
    weights = models.initial_weights(model, shape, 10, seed=0)
    mask, seen = masks.dense(weights, kinds), {}
    for level in range(1, max(printed) + 1):
        mask = masks.prune(mask, masks.magnitude_scores(weights, mask), masks.rates(fractions, kinds))
        seen[level] = round(100 * masks.density(mask), 2)
    assert {level: seen[level] for level in printed} == printed


@pytest.mark.parametrize("fraction", [1.5, 1.0, -0.1, float("nan"), "half", {"fc": 1.5}, {"fc": "half"}])
def test_a_fraction_that_is_none_is_refused_where_the_chain_is_named(fraction):
    """Of one shot and of several rounds, and before a network is made."""
    training = recipes.training(
        data="digits", model="lenet-9", steps=5, batch=5, optimiser="adam", lr=1e-3, validation=9
    )
    for chain in (
        lambda: tickets.imp(training, 0, 1, fraction),
        lambda: tickets.one_shot(training, 0, 2, fraction),
        lambda: tickets.retrained(training, 0, 1, fraction, "fine-tuning"),
    ):
        with pytest.raises(masks.MaskError, match=r"must be a number in \[0, 1\), not"):
            chain()


def test_fractions_may_be_numbers_and_mappings_of_any_kind():
    kinds = {"fc1.weight": "fc", "fc2.weight": "output"}
    wanted = masks.rates({"fc": 0.25, "output": 0.0}, kinds)
    assert masks.rates(MappingProxyType({"fc": np.float32(0.25), "output": np.int64(0)}), kinds) == wanted
    assert {type(rate) for rate in masks.checked({"fc": np.float32(0.25), "output": 0}).values()} == {float}
    assert masks.rates(np.float32(0.25), kinds) == dict.fromkeys(kinds, 0.25)


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("fraction", [-0.05, 1.0, float("nan"), None])
def test_what_is_no_fraction_prunes_nothing(scope, fraction):
    mask = {"w": torch.ones(10, 10, dtype=torch.bool)}
    with pytest.raises(MaskError, match=r"a pruned fraction must be a number in \[0, 1\), not .* for w"):
        masks.prune(mask, {"w": torch.rand(10, 10)}, {"w": fraction}, scope)


def test_masks_of_no_layer_have_no_distance():
    with pytest.raises(MaskError, match="without a layer have no distance"):
        masks.distance({}, {})


def test_rounds_that_leave_nothing_are_refused_by_their_number():
    training = recipes.training(
        data="digits", model="lenet-8", steps=9, batch=9, optimiser="adam", lr=1e-3, validation=9
    )
    with pytest.raises(recipes.RecipeError, match=r"90 rounds that remove 0.3 each leave nothing"):
        tickets.one_shot(training, 0, 90, 0.3)
