"""Controls, losing tickets, masks at the start and learned masks."""

from dataclasses import replace

import pytest
import torch
from support import LENET as T
from support import chain_in, run

from lottery import LotteryError, data, masks, models, tickets
from lottery import recipes as r
from lottery.controls import (
    AtStart,
    Complement,
    ControlError,
    DegreePreserving,
    Drawn,
    Early,
    EdgePopup,
    LitPreserving,
    Rescaled,
    Spliced,
    Unlit,
    _largest,
    cheaper,
    chosen,
    drawn,
    losing,
    transferred,
    transfers,
    turned,
)
from lottery.engine.check import check
from lottery.engine.execute import world
from lottery.engine.store import Store


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A chain of three levels of 40 %, and its store."""
    return chain_in(tmp_path_factory.mktemp("store"), 3, 0.4)


def made(recipe, store):
    return recipe.tensors(world(store), T)


def record(recipe, store):
    return run([recipe], store)[0]


def test_a_complement_has_the_counts_of_the_mask_and_none_of_its_weights(chain):
    runs, store = chain
    mask, other = made(runs[3].mask, store), made(Complement(runs[3].mask, 0), store)
    assert masks.count(mask) == masks.count(other)
    assert not any((mask[name] & other[name]).any() for name in mask)
    again, drawn = made(Complement(runs[3].mask, 0), store), made(Complement(runs[3].mask, 0, 1), store)
    assert all(torch.equal(other[name], again[name]) for name in mask)
    assert not all(torch.equal(other[name], drawn[name]) for name in mask)


def test_a_layer_of_which_more_than_half_is_left_has_no_complement(chain):
    runs, store = chain
    with pytest.raises(ControlError, match="at most half"):
        made(Complement(runs[1].mask, 0), store)
    check([replace(runs[3], mask=Complement(runs[3].mask, 0))])  # and before anything is computed
    ranked = tickets.imp(T, 0, 1, 0.2, scope="global")[1].mask
    for mask in (runs[1].mask, tickets.shuffled(runs[1], 0).mask, DegreePreserving(runs[1].mask, 0), ranked):
        mask = Complement(mask, 0)
        with pytest.raises(ControlError, match=r"fc1\.weight keeps .* at most half"):
            check([replace(runs[1], mask=mask)])
        twice = Spliced(Spliced(runs[3].mask, mask, ("fc2.weight",)), runs[3].mask, ("fc3.weight",))
        for changed in ({"mask": twice}, {"weights": r.Reshuffled(r.Initial(0), mask, 0)}):
            with pytest.raises(ControlError, match=r"fc1\.weight keeps .* at most half"):
                check([replace(runs[1], **changed)])


def test_what_stands_in_a_mask_is_checked_by_the_network_that_it_is_of():
    narrow, wide = (replace(T, model=f"lenet-30-{units}") for units in (1, 40))
    ticket = tickets.imp(wide, 0, 1, 0.96)[1]  # of the narrow network's output layer it would leave nothing
    with pytest.raises(LotteryError, match=r"lenet-30-40 on digits does not fit lenet-30-1 on digits: fc2\.weight"):
        check([r.Run(narrow, r.Initial(0), Spliced(r.Dense(), Complement(ticket.mask, 0), ("fc1.weight",)))])


def test_degrees_are_preserved_and_connections_are_not(chain):
    runs, store = chain
    mask, other = made(runs[2].mask, store), made(DegreePreserving(runs[2].mask, 0), store)
    for name in mask:
        for axis in (0, 1):
            assert torch.equal(mask[name].sum(axis), other[name].sum(axis))
    assert not torch.equal(mask["fc1.weight"], other["fc1.weight"])


def test_lit_inputs_keep_their_count_and_no_connection(chain):
    runs, store = chain
    mask, other = made(runs[2].mask, store), made(LitPreserving(runs[2].mask, 0), store)
    unlit = record(Unlit(T), store)
    dark = torch.from_numpy(unlit.arrays["unlit"]).bool()
    assert 0 < dark.sum() < len(dark)
    for inside in (dark, ~dark):
        assert other["fc1.weight"][:, inside].sum() == mask["fc1.weight"][:, inside].sum()
    assert masks.count(mask) == masks.count(other)
    assert all(masks.distance({name: mask[name]}, {name: other[name]}) > 0 for name in mask)
    again, drawn = (made(LitPreserving(runs[2].mask, 0, draw), store) for draw in (0, 1))
    assert masks.distance(again, other) == 0 < masks.distance(drawn, other)
    with pytest.raises(LotteryError, match="only a fully connected layer has lit inputs"):
        check([r.Run(replace(T, model="conv-2"), r.Initial(0), LitPreserving(r.Dense(), 0))])
    models.register(
        "coarse",
        lambda shape, classes: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.MaxPool1d(2), torch.nn.Linear(32, 10)),
    )
    with pytest.raises(LotteryError, match="has 32 inputs, an example 64"):
        check([r.Run(replace(T, model="coarse"), r.Initial(0), LitPreserving(r.Dense(), 0))])


def test_a_spliced_mask_has_its_layers_from_two(chain):
    runs, store = chain
    found = made(Spliced(runs[1].mask, runs[3].mask, ("fc1.weight",)), store)
    assert torch.equal(found["fc1.weight"], made(runs[3].mask, store)["fc1.weight"])
    assert torch.equal(found["fc2.weight"], made(runs[1].mask, store)["fc2.weight"])
    with pytest.raises(ControlError, match="no layers fc9"):
        made(Spliced(runs[1].mask, runs[3].mask, ("fc9.weight",)), store)


def test_an_early_mask_is_that_of_the_weights_at_its_step(chain, tmp_path):
    store = Store(tmp_path)
    dense = tickets.dense(T, 0)
    record(Early(dense, 30, 0.4), store)
    state = store.state(dense.key, 30)
    whole = masks.dense(state, models.prunable(world(store).network(T)))
    rates = dict.fromkeys(whole, 0.4)
    wanted = masks.prune(whole, masks.magnitude_scores(state, whole), rates)
    assert all(torch.equal(found, wanted[name]) for name, found in made(Early(dense, 30, 0.4), store).items())


def test_snip_keeps_the_largest_product_of_weight_and_gradient(tmp_path):
    store, start = Store(tmp_path), r.Initial(0)
    recipe = AtStart(T, start, 0.1, "snip", examples=200)
    record(recipe, store)
    here = world(store)
    module, state = here.network(T), made(start, store)
    module.load_state_dict(state)
    inputs, labels = here.dataset(T).train
    torch.nn.functional.cross_entropy(module(inputs[:200]), labels[:200]).backward()
    scores = {name: (p * p.grad).abs().detach() for name, p in module.named_parameters() if name.endswith("weight")}
    mask = made(recipe, store)
    total = sum(kept.numel() for kept in mask.values())
    assert sum(masks.count(mask).values()) == round(0.1 * total)
    kept, cut = (torch.cat([scores[n][m if inside else ~m] for n, m in mask.items()]) for inside in (True, False))
    assert kept.min() >= cut.max() * (1 - 1e-4)  # the recipe computes in float64


def test_synflow_keeps_a_path_through_every_layer_at_two_per_cent(tmp_path):
    store = Store(tmp_path)
    recipe = AtStart(T, r.Initial(0), 0.02, "synflow")
    record(recipe, store)
    mask = made(recipe, store)
    assert sum(masks.count(mask).values()) == round(0.02 * sum(kept.numel() for kept in mask.values()))
    flow = torch.ones(64)
    for kept in mask.values():
        flow = kept.float() @ flow
    assert flow.sum() > 0


def test_a_learned_mask_works_untrained_where_a_random_one_does_not(tmp_path):
    store, start = Store(tmp_path), Drawn(0, kind="constant", keep=0.5)
    learned = EdgePopup(T, start, 0.5, 300)
    runs = [r.Run(T, start, learned), r.Run(T, start, r.Shuffled(learned, 0))]
    found = run([tickets.untrained(one) for one in runs], store)
    learned_accuracy, random_accuracy = (one.arrays["history/test_accuracy"][0] for one in found)
    assert learned_accuracy > 0.6 and random_accuracy < 0.35
    mask = made(learned, store)
    assert masks.count(mask) == {name: round(0.5 * kept.numel()) for name, kept in mask.items()}
    other = Store(tmp_path / "other")
    record(learned, other)
    assert all(torch.equal(kept, made(learned, other)[name]) for name, kept in mask.items())


def test_scores_that_are_not_finite_are_no_mask(tmp_path):
    """Signed constants keep the loss finite whatever is chosen of them."""
    with pytest.raises(LotteryError, match=r"scores of fc1\.weight of edge-popup are not finite: lower its learning"):
        record(EdgePopup(T, Drawn(0, 0, "constant", 0.5), 0.5, 60, 1e10), Store(tmp_path))


def test_a_dense_run_is_transferred_with_the_start_of_the_targets_seed(tmp_path):
    dense, other = tickets.dense(T, 0), replace(T, seed=5)
    moved, there = transferred(dense, other), world(Store(tmp_path))
    one, another = (run.weights.tensors(there, run.training)["fc1.weight"] for run in (dense, moved))
    assert moved.weights == dense.weights and not torch.equal(one, another)


def test_scores_are_learned_in_the_precision_and_layout_of_the_training(tmp_path, monkeypatch):
    store, start = Store(tmp_path), Drawn(0, kind="constant", keep=0.5)

    def found(**more):
        learned = EdgePopup(replace(T, **more), start, 0.5, 40)
        record(learned, store)
        return made(learned, store)

    exact, coarse = found(), found(precision="bf16")
    assert any(not torch.equal(kept, coarse[name]) for name, kept in exact.items())
    with pytest.raises(LotteryError, match="tf32"):
        found(precision="tf32")
    strides, convolve = [], torch.nn.Conv2d.forward
    monkeypatch.setattr(torch.nn.Conv2d, "forward", lambda own, x: strides.append(x.stride(1)) or convolve(own, x))
    x, y = torch.rand(120, 3, 8, 8), torch.arange(120) % 3
    coloured = data.register("coloured", (x, y), (x[:50], y[:50]))
    for layout, stride in (("channels_last", 1), ("channels_first", 64)):
        strides.clear()
        conv = replace(T, data=coloured, model="conv-2-4", layout=layout, batch=20, validation=20)
        record(EdgePopup(conv, start, 0.5, 5), store)
        assert strides[-1] == stride  # of the channels of 8 by 8 pixels before the second convolution


def test_masks_that_were_learned_in_another_precision_than_asked_are_not_taken_for_those_asked():
    def version(**more):
        return EdgePopup(replace(T, **more), r.Initial(0), 0.5, 40).json()["version"]

    assert version() == 1
    assert {version(precision="bf16"), version(precision="tf32"), version(layout="channels_last")} == {2}


@pytest.mark.parametrize("near", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("count", [1, 500, 1000])
def test_the_largest_scores_are_found_wherever_the_last_threshold_was(count, near):
    scores = torch.rand(20, 50, generator=torch.Generator().manual_seed(0))
    kept, least = _largest(scores, count, near)
    assert least == scores.flatten().sort(descending=True).values[count - 1]
    assert torch.equal(kept == 1, scores >= least) and kept.sum() == count
    equal, _ = _largest(torch.ones(20, 50), count, 1.0)
    assert equal.sum() == count


def test_networks_that_are_not_trained_keep_one_share_of_each_layer(tmp_path):
    runs = chosen(T, 0, 0.5, 100)
    found = run(list(runs.values()), Store(tmp_path))
    for name, one in zip(runs, found, strict=True):
        assert one.values["density"] == pytest.approx(0.5, abs=1e-3), name
        assert one.arrays["history/step"][-1] == 1, name
    accuracy = {name: one.arrays["history/test_accuracy"][0] for name, one in zip(runs, found, strict=True)}
    assert min(accuracy["constants"], accuracy["normal"], accuracy["same sign"]) > accuracy["random"] + 0.1


def test_drawn_weights_have_the_scale_of_their_fan_in(tmp_path):
    store = Store(tmp_path)
    constant, normal = (made(Drawn(0, kind=kind, keep=0.5), store) for kind in ("constant", "normal"))
    deviation = (2 / (64 * 0.5)) ** 0.5
    assert torch.allclose(constant["fc1.weight"].abs(), torch.tensor(deviation))
    assert normal["fc1.weight"].std().item() == pytest.approx(deviation, rel=0.05)
    assert torch.equal(constant["fc1.weight"].sign(), normal["fc1.weight"].sign())
    assert not constant["fc1.bias"].any()


def test_what_is_called_a_bias_and_is_not_trained_is_drawn_as_the_network_has_it(monkeypatch):
    """Attention's offsets and masks are often buffers of this name."""

    def build(shape, classes):
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.Linear(8, classes))
        network[1].bias.requires_grad_(False)
        network.register_buffer("bias", torch.ones(2))
        return network

    monkeypatch.setattr(models, "_registered", {})
    models.register("offset", build)
    own = replace(T, model="offset")
    given, found = world(None).network(own).state_dict(), Drawn(0).tensors(world(None), own)
    assert given["1.bias"].any() and torch.equal(found["1.bias"], given["1.bias"])
    assert torch.equal(found["bias"], given["bias"]) and not found["2.bias"].any()


def test_rescaled_survivors_have_the_other_networks_norms(chain):
    runs, store = chain
    start, mask = r.Initial(0, 1), Complement(runs[3].mask, 0)
    found = made(Rescaled(start, mask, runs[3].weights, runs[3].mask), store)
    ticket, own, other = made(runs[3].weights, store), made(runs[3].mask, store), made(mask, store)
    for name, kept in other.items():
        assert (found[name] * kept).norm().item() == pytest.approx((ticket[name] * own[name]).norm().item(), rel=1e-5)


def test_a_transferred_ticket_starts_where_its_source_does_and_trains_as_the_target(chain):
    runs, store = chain
    sgd = r.training(
        data="digits", model="lenet-30-20", steps=40, batch=50, optimiser="sgd", lr=0.1, validation=200, scaling="unit"
    )
    moved = transferred(runs[2], sgd)
    found = record(moved, store)
    assert found.values["density"] == store.read(runs[2].key).values["density"]
    assert moved.training.optimiser == "sgd" and moved.weights == runs[2].weights
    outside = replace(runs[3], mask=Complement(runs[3].mask, 0))
    assert record(outside, store).values["weights_left"] == store.read(runs[3].key).values["weights_left"]


def test_parts_of_a_transfer_are_made_of_two_masks_and_two_starts(chain):
    runs, store = chain
    half = replace(T, part=(0, 2))
    other = tickets.imp(half, 0, 1, 0.4)
    run(other, store)
    [made_of] = transfers(half, T, 0, [1], 0.4)
    native, moved = made_of["native"], made_of["moved"]
    assert (native, moved) == (runs[1], transferred(other[1], T))
    here, there = made(native.mask, store), made(moved.mask, store)
    got = {kind: made(run.mask, store) for kind, run in made_of.items()}
    assert {run.training for run in made_of.values()} == {T}
    for name in here:
        top = name != "fc1.weight"
        assert torch.equal(got["upper layers"][name], there[name] if top else here[name])
        assert torch.equal(got["first layer"][name], here[name] if top else there[name])
        assert torch.equal(got["degrees"][name].sum(0), there[name].sum(0))
        assert got["random"][name].sum() == here[name].sum()
    assert made_of["random"].weights == native.weights and made_of["degrees"].weights == moved.weights
    assert made_of["mask alone"].weights == made_of["random, fresh"].weights == r.Initial(0, 1)


def test_inputs_that_no_training_example_lights_are_counted(tmp_path):
    store = Store(tmp_path / "store")
    half = replace(T, part=(1, 2))
    for training in (T, half):
        images = world(store).dataset(training).train[0].flatten(1)
        found = record(Unlit(training), store)
        unlit = [pixel for pixel in range(64) if not images[:, pixel].any()]
        assert found.arrays["unlit"].nonzero()[0].tolist() == unlit and 0 in unlit  # a corner of the digits
        assert found.values == {"inputs": 64, "unlit": len(unlit), "examples": len(images)}
    assert len(images) == 600  # of 1,400 digits, 200 are for validation; the half of the rest


def test_sub_networks_that_may_lose_keep_as_many_weights_as_the_ticket(chain):
    runs, store = chain
    made_of = losing(T, 0, 3, 0.4)
    assert made_of["ticket"] == runs[3]
    counts = {kind: sum(record(run, store).values["weights_left"].values()) for kind, run in made_of.items()}
    dense = counts.pop("dense")
    assert dense > 2 * max(counts.values()) and max(counts.values()) - min(counts.values()) <= 3
    own = ("dense", "reinitialised", "small at the end, rescaled", "small at the start, rescaled")
    assert {run.weights for kind, run in made_of.items() if kind not in own} == {runs[3].weights}
    for kind in ("small at the end", "small at the start"):
        small, rescaled = made_of[kind], made_of[f"{kind}, rescaled"]
        wanted = Rescaled(runs[3].weights, small.mask, runs[3].weights, runs[3].mask)
        assert rescaled == replace(small, weights=wanted)


def test_cheaper_masks_train_from_the_tickets_start(chain):
    runs, store = chain
    made_of = cheaper(T, 0, 3, 0.4, 0.2)
    early = made_of["early"].mask
    assert (early.run, early.step, early.fraction) == (runs[0], 6, made_of["one-shot"].mask.fraction)
    assert {run.weights for run in made_of.values()} == {runs[3].weights}
    found = record(made_of["SNIP"], store)
    assert found.values["density"] == pytest.approx(0.2, abs=1e-3)
    before, itself, once, ticket = drawn(made_of, [3, 6])
    assert (before, itself) == (replace(early, step=3), early)
    assert (once, ticket) == (made_of["one-shot"].mask, runs[3].mask)
    without = cheaper(T, 0, 3, 0.4, 0.2, early=0)
    assert without == {name: run for name, run in made_of.items() if name not in ("one-shot", "early")}


def test_turned_starts_have_the_tickets_magnitudes_and_other_signs(chain):
    runs, store = chain
    made_of = turned(runs[3], 0, (0.5, 1.0))
    start, end, mask = (made(part, store) for part in (runs[3].weights, runs[3].end, runs[3].mask))
    got = {name: made(run.weights, store) for name, run in made_of.items()}
    assert {run.mask for run in made_of.values()} == {runs[3].mask} and list(got) == [0.5, 1.0, "opposed"]
    for name, kept in mask.items():
        assert all(torch.equal((state[name] * kept).abs(), (start[name] * kept).abs()) for state in got.values())
        assert torch.equal(got[1.0][name][kept], -start[name][kept])
        assert (got[0.5][name] != start[name]).sum() == round(0.5 * int(kept.sum()))
        assert torch.equal(got["opposed"][name][kept].sign(), -end[name][kept].sign())
