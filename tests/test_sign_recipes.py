"""The functional sign experiments of Zhou et al. (2019) and Oh et al. (2025) as recipes, each executed, small."""

import dataclasses

import numpy as np
import pytest
import torch
from support import normalised, run

from lottery import LotteryError, kernels, landscape, masks, models, signs, tickets
from lottery import recipes as r
from lottery.engine.execute import dataset_of, world
from lottery.engine.store import Store
from lottery.recipes import Constant, Dense, Initial, Noisy, Pruned, RecipeError, Reshuffled, Rewound, Signed

KINDS = [(values, signs) for values in ("new", "reshuffled", "constant") for signs in ("original", "random")]
CRITERIA = [*masks.CRITERIA, "random"]


def training(**changes):
    base = dict(
        data="digits",
        model="lenet-16-8",
        steps=60,
        batch=50,
        optimiser="adam",
        lr=3e-3,
        validation=200,
        evaluate=((60, 20),),
    )
    return r.training(**{**base, **changes})


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A chain of two levels and the store it is in."""
    store = Store(tmp_path_factory.mktemp("signs") / "store")
    chain = tickets.imp(training(), 0, 2, {"fc": 0.4, "output": 0.2})
    run(chain, store)
    return chain, store


def start_and_mask(run_, store):
    return run_.weights.tensors(world(store), run_.training), run_.mask.tensors(world(store), run_.training)


def test_a_record_holds_the_signs_at_the_end_and_with_its_start_the_flips(study):
    chain, store = study
    for ticket in chain:
        state, mask = start_and_mask(ticket, store)
        end = signs.decode(store.read(ticket.key).arrays, mask)
        expected = signs.ternary(store.state(ticket.key, 60), mask)
        assert all(torch.equal(end[name], expected[name]) for name in mask)
        flipped = signs.flips(signs.ternary(state, mask), end)
        assert all(0 <= share < 0.5 for share in flipped.values()) and list(flipped) == list(mask)
        if ticket == chain[0]:  # small weights are cut with time, and large ones do not flip in so few steps
            assert all(flipped.values())


# {new draw, reshuffled, constant} × {original signs, random signs}.


@pytest.mark.parametrize("values, signs", KINDS)
def test_altered_tickets_train_under_the_tickets_mask(study, values, signs):
    chain, store = study
    altered = tickets.sign_ablation(chain[2], 0, values, signs)
    [record] = run([altered], store)
    assert record.values["weights_left"] == store.read(chain[2].key).values["weights_left"]
    accuracy = record.arrays["history/test_accuracy"]
    assert accuracy[-1] > max(accuracy[0], 0.15)
    assert altered.mask == chain[2].mask and altered.order == chain[2].order and altered.start == 0


@pytest.mark.parametrize("values, signs", KINDS)
def test_original_signs_are_kept_and_random_ones_are_not(study, values, signs):
    chain, store = study
    ticket, mask = start_and_mask(chain[2], store)
    state, _ = start_and_mask(tickets.sign_ablation(chain[2], 0, values, signs), store)
    for name, kept in mask.items():
        same = (state[name].sign() == ticket[name].sign())[kept].float().mean()
        assert same == 1 if signs == "original" else 0.3 < same < 0.7
        assert not torch.equal(state[name][kept], ticket[name][kept])


def test_all_alterations_draws_and_replicates_differ(study):
    chain, store = study
    made = [
        tickets.sign_ablation(chain[2], replicate, values, signs, draw)
        for values, signs in KINDS
        for replicate in (0, 1)
        for draw in (1, 2)
    ]
    constant = tickets.sign_ablation(chain[2], 0, "constant").key  # draws nothing
    keys = [run_.key for run_ in made]
    assert keys.count(constant) == 4 and len(set(keys)) == 5 * 4 + 1
    first = {start_and_mask(run_, store)[0]["fc1.weight"].numpy().tobytes() for run_ in made}
    assert len(first) == len(set(keys))


def test_reshuffled_values_are_the_survivors_own_and_the_rest_stays(study):
    chain, store = study
    ticket, mask = start_and_mask(chain[2], store)
    state, _ = start_and_mask(tickets.sign_ablation(chain[2], 0, "reshuffled", "random"), store)
    for name, kept in mask.items():
        assert torch.equal(state[name][kept].sort().values, ticket[name][kept].sort().values)
        assert torch.equal(state[name][~kept], ticket[name][~kept])
    assert all(torch.equal(state[name], ticket[name]) for name in ticket if name not in mask)


@pytest.mark.parametrize("signs", ["original", "random"])
def test_constants_are_each_layers_standard_deviation(study, signs):
    chain, store = study
    ticket, mask = start_and_mask(chain[2], store)
    state, _ = start_and_mask(tickets.sign_ablation(chain[2], 0, "constant", signs), store)
    for name in mask:
        torch.testing.assert_close(state[name].abs(), ticket[name].std().expand_as(ticket[name]))


def test_permuting_changes_none_of_its_arguments():
    weights, mask = {"w": torch.arange(30.0), "b": torch.ones(2)}, {"w": torch.arange(30) < 20}
    found = masks.permute(weights, mask, np.random.default_rng(1))
    assert torch.equal(weights["w"], torch.arange(30.0)) and found["b"] is weights["b"]
    assert torch.equal(found["w"][20:], weights["w"][20:]) and torch.equal(found["w"].sort().values, weights["w"])
    assert not torch.equal(found["w"], weights["w"])


@pytest.mark.parametrize("values, signs", [("old", "original"), ("new", "all")])
def test_an_unknown_alteration_is_refused(study, values, signs):
    with pytest.raises(RecipeError, match="cannot alter"):
        tickets.sign_ablation(study[0][2], 0, values, signs)


def test_a_late_rewound_ticket_is_not_altered():
    with pytest.raises(RecipeError, match="from step 30"):
        tickets.sign_ablation(tickets.imp(training(), 0, 1, 0.2, rewind_step=30)[1], 0, "new")


def test_altered_weights_of_a_rewound_run_start_where_it_does():
    late = Rewound(tickets.dense(training(), 0), 30)
    assert Constant(late).start == 30 == Reshuffled(late, Dense(), 0).start and Signed(Initial(0), late).start == 0


# Noise on the start.


def noise(run_, store, unit):
    """What was added, in standard deviations of the layer."""
    state, _ = start_and_mask(run_, store)
    return {name: (state[name] - t) / (t.std() if t.ndim > 1 else 1) for name, t in unit.items()}


def test_noise_has_the_scale_it_says_on_weights_and_none_on_biases(study):
    chain, store = study
    start, mask = start_and_mask(chain[2], store)
    one, three = (noise(tickets.noisy(chain[2], 0, scale), store, start) for scale in (1.0, 3.0))
    for name, found in one.items():
        torch.testing.assert_close(three[name], 3 * found, atol=1e-4, rtol=1e-4)  # the same noise at every scale
        assert name in mask or not found.any()
    values = torch.cat([one[name].flatten() for name in mask])
    assert len(values) > 1200 and abs(values.mean()) < 0.1 and 0.93 < values.std() < 1.07
    untouched = Initial(0).tensors(world(store), training())
    assert torch.equal(start["fc1.weight"], untouched["fc1.weight"])


def test_draws_and_replicates_of_noise_are_independent(study):
    chain, store = study
    start, _ = start_and_mask(chain[2], store)
    draws = [
        noise(tickets.noisy(chain[2], replicate, 1.0, draw), store, start)["fc1.weight"].flatten()
        for replicate, draw in ((0, 1), (0, 2), (1, 1))
    ]
    correlations = torch.corrcoef(torch.stack(draws))
    assert (correlations - torch.eye(3)).abs().max() < 0.1


def test_a_noisy_ticket_trains_under_its_mask(study):
    chain, store = study
    altered = tickets.noisy(chain[2], 0, 3.0)
    run([altered], store)
    _, mask = start_and_mask(chain[2], store)
    end = store.state(altered.key, 60)
    assert all((end[name][~kept] == 0).all() and end[name][kept].all() for name, kept in mask.items())
    assert altered.order == chain[2].order and Noisy(Rewound(chain[0], 30), 0.5, 0).start == 30
    with pytest.raises(ValueError, match="greater than 0"):
        tickets.noisy(chain[2], 0, 0.0)


# Transfer of signs to a new start.


@pytest.fixture(scope="module")
def with_normalisation(tmp_path_factory):
    models.register("sign-transfer", normalised)
    store = Store(tmp_path_factory.mktemp("transfer") / "store")
    chain = tickets.imp(training(model="sign-transfer"), 0, 1, 0.4)
    made = {along: tickets.sign_transferred(chain[1], 1, normalisation=along) for along in (False, True)}
    run([*chain, *made.values()], store)
    return chain[1], made, store


@pytest.mark.parametrize("along", [False, True])
def test_signs_of_the_trained_ticket_go_to_a_new_start(with_normalisation, along):
    ticket, made, store = with_normalisation
    trained, fresh = store.state(ticket.key, 60), Initial(1, 1).tensors(world(store), ticket.training)
    state, mask = start_and_mask(made[along], store)
    for name, kept in mask.items():
        assert torch.equal(state[name][kept].sign(), trained[name][kept].sign())
        assert torch.equal(state[name][kept].abs(), fresh[name][kept].abs()) and not state[name][~kept].any()
    source = trained if along else fresh
    scales = [f"2.{key}" for key in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]
    assert models.normalisation(normalised((1, 8, 8), 10)) == scales
    assert all(torch.equal(state[name], source[name]) for name in scales)
    assert torch.equal(state["1.bias"], fresh["1.bias"])
    assert store.read(made[along].key).values["test_accuracy_end"] > 0.3


def test_transfer_keeps_the_trained_weights_for_as_long_as_they_are_needed(study):
    chain, _ = study
    transferred = tickets.sign_transferred(chain[2], 0)
    assert (chain[2], 60) in transferred.reads() and (chain[2].mask, None) in transferred.reads()
    assert transferred.start == 0 and transferred.key != tickets.reinitialised(chain[2], 0).key


def test_normalisation_of_a_network_that_has_none_and_of_one_that_is_nothing_else():
    assert models.normalisation(torch.nn.Linear(2, 2)) == []
    assert models.normalisation(torch.nn.LayerNorm(2)) == ["weight", "bias"]


# Criteria of masks.


def test_scores_by_hand():
    start, end = {"w": torch.tensor([1.0, -2.0, 3.0])}, {"w": torch.tensor([2.0, 1.0, -5.0])}
    expected = {
        "magnitude": [2, 1, 5],
        "small_final": [-2, -1, -5],
        "large_init": [1, 2, 3],
        "small_init": [-1, -2, -3],
        "magnitude_increase": [1, -1, 2],
        "movement": [1, 3, 8],
        "large_final_same_sign": [2, -1, -5],
        "large_final_diff_sign": [-2, 1, 5],
    }
    assert set(expected) == set(masks.CRITERIA)
    for criterion, scores in expected.items():
        assert masks.scores(criterion, start, end, {"w": None})["w"].tolist() == scores
    assert masks.magnitude_scores(end, {"w": None})["w"].tolist() == expected["magnitude"]


def test_an_unknown_criterion_is_refused():
    with pytest.raises(masks.MaskError, match="no criterion 'luck'"):
        masks.scores("luck", {}, {}, {})
    with pytest.raises(ValueError, match="criterion"):
        Pruned(tickets.dense(training(), 0), 0.2, criterion="luck")


@pytest.mark.parametrize("criterion", CRITERIA)
def test_masks_by_every_criterion_are_nested_exact_and_keep_the_largest_scores(study, criterion):
    _, store = study
    chain = tickets.imp(training(), 0, 2, 0.4, criterion=criterion)
    run(chain, store)
    first, second = (masks.from_record(store.read(run_.mask.key)) for run_ in chain[1:])
    assert not any((second[name] & ~kept).any() for name, kept in first.items())
    assert masks.count(first)["fc1.weight"] == 1024 - round(0.4 * 1024)
    if criterion != "random":
        start, end = Initial(0).tensors(world(store), training()), store.state(chain[0].key, 60)
        scores = masks.scores(criterion, start, end, first)
        assert all(scores[name][kept].min() >= scores[name][~kept].max() for name, kept in first.items())


def test_random_pruning_has_draws_and_depends_on_the_replicate(study):
    _, store = study
    drawn = [
        Pruned(tickets.dense(training(), replicate), 0.4, criterion="random", draw=draw)
        for replicate, draw in ((0, 0), (0, 1), (1, 0))
    ]
    found = [masks.from_record(record)["fc1.weight"] for record in run(drawn, store)]
    assert not any(torch.equal(found[one], found[other]) for one, other in ((0, 1), (0, 2), (1, 2)))


def test_large_final_is_another_name_for_magnitude():
    chains = [
        tickets.imp(training(), 0, 1, 0.2, **criterion)[1].key
        for criterion in ({}, {"criterion": "magnitude"}, {"criterion": "large_final"})
    ]
    assert len(set(chains)) == 1
    keys = {tickets.one_shot(training(), 0, 2, 0.2, criterion=criterion).key for criterion in CRITERIA}
    assert len(keys) == len(CRITERIA) and tickets.one_shot(training(), 0, 2, 0.2).key in keys


# Supermasks.


def test_an_untrained_run_evaluates_its_start(study):
    chain, store = study
    [record] = run([tickets.untrained(chain[2])], store)
    assert record.arrays["history/step"].tolist() == [0, 1]
    whole = store.read(chain[2].key).arrays["history/test_accuracy"]
    assert record.arrays["history/test_accuracy"][0] == whole[0]
    late = tickets.untrained(tickets.imp(training(), 0, 1, 0.2, rewind_step=30)[1])
    assert (late.start, late.training.steps) == (30, 31)


def test_a_supermask_is_far_better_than_chance_without_training(study):
    """Signed constants under a mask of weights that ended large with the sign they began with."""
    _, store = study
    wide = training(model="lenet-100-50", steps=200, evaluate=((200, 100),))
    accuracy = {}
    for criterion in ("large_final_same_sign", "random"):
        masked = tickets.one_shot(wide, 0, 1, 0.5, criterion=criterion)
        supermask = tickets.untrained(dataclasses.replace(masked, weights=Constant(masked.weights)))
        accuracy[criterion] = run([supermask], store)[0].arrays["history/test_accuracy"][0]
    assert accuracy["large_final_same_sign"] > 0.4 and accuracy["random"] < 0.3


# Signs that flipped since a start.


def test_flips_are_counted_among_the_survivors_since_any_start(study):
    chain, store = study
    asked = [signs.Flipped(chain[0], chain[0].weights), signs.Flipped(chain[2], Initial(5))]
    own, other = run(asked, store)
    state, mask = start_and_mask(chain[0], store)
    end = signs.signs_of(world(store), chain[0])
    changed = {name: (state[name].sign() != end[name])[kept] for name, kept in mask.items()}
    assert own.values["layers"] == pytest.approx({name: float(c.double().mean()) for name, c in changed.items()})
    assert own.values["flipped"] == pytest.approx(float(torch.cat(list(changed.values())).double().mean()))
    assert 0 < own.values["flipped"] < 0.3 < other.values["flipped"] < 0.7  # of another start it is chance


# Two networks compared.


def test_a_comparison_is_that_of_the_networks_signs_beside_its_nulls(study):
    chain, store = study
    [record] = run([signs.Compared(chain[1], chain[2], 2, both=True)], store)
    nets = [signs.signs_of(world(store), ticket) for ticket in chain[1:]]
    for i, signed in enumerate(signs.SIGNED):
        for j, matching in enumerate(signs.MATCHED):
            expected = signs.compare(*nets, signed, matching)
            for k, measure in enumerate(signs.MEASURES):
                values = list(getattr(expected, measure).values())
                np.testing.assert_array_equal(record.arrays["pair"][i, j, k], values)
    assert record.values["layers"] == list(nets[0])
    assert record.arrays["degrees"].shape == record.arrays["signs"].shape == (2, *record.arrays["pair"].shape)
    unmatched = record.arrays["signs"][:, 1, 0]  # the masks are the two's own: without signs nothing changes
    np.testing.assert_allclose(unmatched[:, 0], np.tile(record.arrays["pair"][1, 0, 0], (2, 1)))
    assert "degrees" not in run([signs.Compared(chain[1], chain[2], 0)], store)[0].arrays
    assert [(one.a, one.b, one.draws) for one in signs.between(chain[:3], 0)] == [
        (chain[0], chain[1], 0),
        (chain[0], chain[2], 0),
        (chain[1], chain[2], 0),
    ]


def test_networks_that_are_no_chain_are_not_compared_but_refused_at_once(tmp_path):
    store = Store(tmp_path / "store")
    runs = tickets.imp(training(model="resnet-8", steps=2, evaluate=((2, 2),)), 0, 1, 0.5)
    for recipe in (
        signs.Compared(*runs),
        landscape.Path(runs[0].training, (runs[0].end, signs.Aligned(runs[1].end, runs[0].end)), Dense()),
    ):
        with pytest.raises(LotteryError, match="hidden units cannot be matched"):
            recipe.check(world(store))
        with pytest.raises(LotteryError, match="hidden units cannot be matched"):
            run([recipe], store)
    assert not store.keys()
    other = tickets.dense(training(model="lenet-16"), 0)
    with pytest.raises(LotteryError, match="only like networks"):
        signs.Compared(tickets.dense(training(), 0), other).check(world(store))


def test_flipped_signs_are_a_growing_nested_share_of_the_survivors(study):
    chain, store = study
    state, mask = start_and_mask(chain[2], store)
    before = {}
    for share in (0, 0.1, 0.4, 1):
        flipped = signs.FlippedSigns(chain[2].weights, chain[2].mask, share, 0)
        found = flipped.tensors(world(store), chain[2].training)
        for name, kept in mask.items():
            changed = found[name] != state[name]
            assert torch.equal(found[name][changed], -state[name][changed]) and not (changed & ~kept).any()
            assert changed.sum() == round(share * int(kept.sum()))
            assert not (before.get(name, torch.zeros_like(changed)) & ~changed).any()
            before[name] = changed
        assert all(torch.equal(found[name], state[name]) for name in state if name not in mask)
    draws = [signs.FlippedSigns(chain[2].weights, chain[2].mask, 0.4, *which) for which in ((0,), (0, 1), (1,))]
    first, *others = (draw.tensors(world(store), chain[2].training) for draw in draws)
    assert all(not torch.equal(first["fc1.weight"], other["fc1.weight"]) for other in others)
    assert draws[0].start == chain[2].start and len({draw.key for draw in draws}) == 3


def test_a_hybrid_has_the_others_values_where_signs_differ_and_its_control_moves_as_far(study):
    chain, store = study
    one, other = chain[0].end, Initial(1)
    states = [part.tensors(world(store), chain[0].training) for part in (one, other)]
    names, lengths = list(models.prunable(models.build("lenet-16-8", (1, 8, 8), 10))), {}
    for where in ("signs differ", "anywhere"):
        found = signs.Hybrid(one, other, where).tensors(world(store), chain[0].training)
        for name in names:
            taken = found[name] != states[0][name]
            assert torch.equal(found[name], torch.where(taken, states[1][name], states[0][name]))
            if where == "signs differ":
                assert torch.equal(taken, states[0][name] * states[1][name] < 0)
            lengths[where, name] = (found[name] - states[0][name]).double().norm().item()
        assert all(torch.equal(found[name], states[0][name]) for name in found if name not in names)
    for name in names:
        assert lengths["anywhere", name] == pytest.approx(lengths["signs differ", name], rel=0.1)


@pytest.mark.parametrize("by", ["weights", "signs"])
def test_an_aligned_network_is_the_same_function_nearer_to_the_other(study, by):
    chain, store = study
    other = tickets.dense(training(), 1)
    run([other], store)
    aligned = signs.Aligned(other.end, chain[0].end, by)
    paths = [landscape.Path(training(), (chain[0].end, end), Dense(), 3) for end in (other.end, aligned)]
    plain, matched = run(paths, store)
    for name in ("averaged/test_loss", "averaged/test_error"):
        assert matched.values[f"ends/{name}"] == pytest.approx(plain.values[f"ends/{name}"], rel=1e-5)
    assert matched.values["distance"] < plain.values["distance"]
    again = signs.Aligned(chain[0].end, chain[0].end, by).tensors(world(store), training())
    end = store.state(chain[0].key, 60)
    assert all(torch.equal(again[name], end[name]) for name in end)


def test_null_pairs_keep_the_numbers_of_signs_and_the_masks_or_the_degrees(study):
    chain, store = study
    nets = [signs.signs_of(world(store), ticket) for ticket in chain[1:]]
    for degrees in (True, False):
        for pair in signs.null_pairs(*nets, np.random.default_rng(0), 2, degrees):
            for net, null in zip(nets, pair, strict=True):
                for name, layer in net.items():
                    assert all((null[name] == sign).sum() == (layer == sign).sum() for sign in (-1, 1))
                    kept, drawn = layer != 0, null[name] != 0
                    assert torch.equal(kept.sum(0), drawn.sum(0)) and torch.equal(kept.sum(1), drawn.sum(1))
                    assert degrees or torch.equal(kept, drawn)


def test_pattern_counts_are_those_of_the_networks_signs_before_and_after(tmp_path):
    store = Store(tmp_path)
    conv = training(model="conv-2", steps=5, evaluate=((5, 5),))
    chain = tickets.imp(conv, 0, 1, {"conv": 0.5, "fc": 0.5, "output": 0.2})
    once = tickets.one_shot(conv, 0, 2, {"conv": 0.5, "fc": 0.5, "output": 0.2}).mask
    ticket, dense = run([kernels.Patterns(chain[1]), kernels.Patterns(chain[0], once)], store)
    state, mask = start_and_mask(chain[1], store)
    sparser = once.tensors(world(store), conv)
    nets = {"end": signs.signs_of(world(store), chain[1]), "start": signs.ternary(state, mask)}
    assert ticket.values["layers"] == dense.values["layers"] == ["conv1.weight", "conv2.weight"]
    for name in ticket.values["layers"]:
        for which, net in nets.items():
            np.testing.assert_array_equal(ticket.arrays[f"{which}/{name}"], kernels.pattern_counts(net[name]))
        top = signs.signs_of(world(store), chain[0])[name] * sparser[name]
        np.testing.assert_array_equal(dense.arrays[f"end/{name}"], kernels.pattern_counts(top))
    assert dense.values["density"] == masks.density(sparser)
    with pytest.raises(LotteryError, match="no layer with 3×3 kernels"):
        run([kernels.Patterns(tickets.dense(training(steps=5), 0))], store)


# A part of the data, another order.


def test_a_part_of_the_data_is_every_nth_training_example_and_nothing_else_changes():
    whole = dataset_of(training())
    halves = [dataset_of(training(part=(i, 2))) for i in (0, 1)]
    for i, half in enumerate(halves):
        assert torch.equal(half.train[0], whole.train[0][i::2]) and torch.equal(half.train[1], whole.train[1][i::2])
        assert torch.equal(half.validation[0], whole.validation[0]) and torch.equal(half.test[0], whole.test[0])
    with pytest.raises(RecipeError, match="part must be"):
        training(part=(2, 2))


def test_another_order_keeps_the_start_and_changes_the_outcome(study):
    chain, store = study
    again = tickets.imp(training(), 0, 1, {"fc": 0.4, "output": 0.2}, order=7)
    assert again[0].order == (7,) and again[1].weights.run.key == again[0].key
    first, second = run([chain[0], again[0]], store)
    starts = [start_and_mask(one, store)[0]["fc1.weight"] for one in (chain[0], again[0])]
    assert torch.equal(*starts)
    assert first.values["test_loss_end"] != second.values["test_loss_end"]
    assert tickets.imp(training(), 3, 1, 0.2, order=3)[1].key == tickets.imp(training(), 3, 1, 0.2)[1].key


# Keys of new recipes, pinned like those in test_recipes.py.


def pinned():
    chain = tickets.imp(training(), 0, 2, {"fc": 0.4, "output": 0.2})
    return {
        **{f"{values}, {signs} signs": tickets.sign_ablation(chain[2], 0, values, signs) for values, signs in KINDS},
        "signs transferred": tickets.sign_transferred(chain[2], 1),
        "signs and normalisation transferred": tickets.sign_transferred(chain[2], 1, normalisation=True),
        "untrained": tickets.untrained(chain[2]),
        "compared": signs.Compared(chain[1], chain[2]),
        "flipped": signs.Flipped(chain[2], chain[0].weights),
        "patterns": kernels.Patterns(chain[1]),
        "patterns under another mask": kernels.Patterns(chain[0], chain[2].mask),
        "half of the data": tickets.dense(training(part=(1, 2)), 0),
        "noisy": tickets.noisy(chain[2], 0, 0.5),
        "same sign": tickets.one_shot(training(), 0, 2, 0.2, criterion="large_final_same_sign"),
    }


PINNED = {
    "new, original signs": "4829e07db21eb3dd94ddcf475b0665bc42b70d7f98ed707dcefc16b1ac9618a1",
    "new, random signs": "ceda5a9c4e7fa754f40eb3066ec765c563e465ba120787e941792e6565479cf3",
    "reshuffled, original signs": "e1e382916d7fcbaee45c37b5e21ca3ae4f0d84016a215bd01341e7d52bf581f4",
    "reshuffled, random signs": "5b55118b1322b9dfe09037f08e55088f26d59e949e1d770df70bd56fa2f234e0",
    "constant, original signs": "171290d98611274bb22cc769559c92d9b43f99e60d4d6384d413fcc55281ccf1",
    "constant, random signs": "63b40dbe036b9287464dec3cc8ee6fef591ef2d70aa4a134e23fcaeb5028910a",
    "signs transferred": "20e11b936ffbc6c300e9e309fb455d878c211fb870b466528b366d3b3906453f",
    "signs and normalisation transferred": "30bf1d07f292b92d15f21fc614628057d231a6e061178a2f2f3f99fa1b16a5bb",
    "untrained": "d726980023135ebe0824b8146a0ac8883024b6d334f22efa6f5c2d6e57554da4",
    "compared": "5966e698df160e0e10fcb0172ee134efe861278386ae84e8cecb3be49ddee972",
    "flipped": "2f397ca7c11f3a443f44c25fc1316750932df866e6b48b99c2007f940dc7eef9",
    "patterns": "6cc1ea6ec54ea51358a95578c6156fdb5578dc818eebdbdf9cd65598f900313a",
    "patterns under another mask": "031322ef6895165ca8aa27a3f721aa0d2a1b5a7b19ec41a85509e1a8645ae4e1",
    "half of the data": "8e65dadce0baa4575e0722ea7ae393284b1309f0797a02a2f2ec0370ca720cf9",
    "noisy": "008dbe9b1b557ba8d4fc472d2bc700a5110e83c916599f1d6917bb90d776cfd1",
    "same sign": "148f9f93aee941f39d8c4d95d53573161b2270c1db860905bda0af2b4e47adfe",
}


@pytest.mark.parametrize("name", PINNED)
def test_keys_never_change(name):
    assert pinned()[name].key == PINNED[name]
