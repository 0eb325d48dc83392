"""Recipes: the key is a function of the values, all of them, and of nothing else."""

import dataclasses
import enum
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lottery import controls, curvature, landscape, tickets
from lottery import recipes as r
from lottery.controls import Early
from lottery.curvature import Spectrum
from lottery.recipes import Dense, Initial, Pruned, RecipeError, Rewound, Run, Shuffled, Signed

BASE = dict(data="digits", model="lenet-20", steps=100, batch=50, optimiser="adam", lr=1e-3)
OTHER = dict(
    data="mnist",
    model="conv-2",
    steps=101,
    batch=60,
    optimiser="sgd",
    lr=1.2e-3,
    momentum=0.9,
    weight_decay=1e-4,
    milestones=(50,),
    gamma=0.2,
    warmup=10,
    augment=True,
    validation=200,
    scaling="unit",
    evaluate=((100, 10),),
    part=(0, 2),
    precision="bf16",
    layout="channels_last",
    seed=1,
    adam_epsilon=1e-7,
    cut_start=2.0,
)

LATER = ("part", "precision", "layout", "adam_epsilon", "cut_start")
FIRST = {name: value for name, value in OTHER.items() if name not in LATER}  # fields of the first version

settings = st.fixed_dictionaries(
    dict(
        data=st.just("digits"),
        model=st.sampled_from(["lenet-20", "conv-2"]),
        steps=st.integers(1, 10**5),
        batch=st.integers(1, 500),
        optimiser=st.just("sgd"),
        lr=st.floats(1e-6, 10),
    ),
    optional=dict(
        momentum=st.floats(0, 0.99),
        weight_decay=st.floats(0, 1),
        warmup=st.integers(0, 100),
        augment=st.booleans(),
        validation=st.integers(1, 5000),
        seed=st.integers(0, 2**31),
    ),
)


def train(**changes):
    return r.training(**{**BASE, **changes})


# Keys.


@given(settings, st.integers(0, 9))
def test_equal_values_give_equal_keys_however_they_are_written(values, replicate):
    again = dict(reversed(values.items()))
    assert tickets.dense(r.training(**values), replicate).key == tickets.dense(r.training(**again), replicate).key


@given(settings, settings)
def test_keys_are_equal_only_for_equal_values(one, other):
    one, other = r.training(**one), r.training(**other)
    assert (one == other) == (one.key == other.key)


@pytest.mark.parametrize("field", OTHER)
def test_any_changed_field_changes_the_key(field):
    base = train(optimiser="sgd") if field == "momentum" else train()
    assert tickets.dense(dataclasses.replace(base, **{field: OTHER[field]}), 0).key != tickets.dense(base, 0).key


def test_every_field_of_a_training_is_tried_above():
    assert set(OTHER) == {field.name for field in dataclasses.fields(r.Training)}


@pytest.mark.parametrize("field", [field for field in OTHER if field not in BASE])
def test_a_default_that_is_spelt_out_changes_nothing(field):
    default = next(f.default for f in dataclasses.fields(r.Training) if f.name == field)
    assert train(**{field: default}).key == train().key


def test_integers_and_floats_of_equal_value_are_one():
    assert train(lr=1, steps=100.0).key == train(lr=1.0, steps=100).key
    assert Pruned(tickets.dense(train(), 0), 0).key == Pruned(tickets.dense(train(), 0), 0.0).key


@pytest.mark.parametrize("number", [np.int8(3), np.uint64(3), np.uint64(2**63)])
def test_integers_of_numpy_are_those_of_python(number):
    whole = int(number)
    assert r.training(**BASE, seed=number).key == r.training(**BASE, seed=whole).key
    assert Initial(number) == Initial(whole)
    one, other = (Run(r.training(**BASE), Initial(0), Dense(), (n,)) for n in (number, whole))
    assert one.key == other.key and one.order == (whole,)


def test_the_order_in_which_fractions_are_given_does_not_matter():
    one, other = ({"fc": 0.2, "output": 0.1}, {"output": 0.1, "fc": 0.2})
    assert tickets.imp(train(), 0, 1, one)[1].key == tickets.imp(train(), 0, 1, other)[1].key


def test_all_parts_of_a_study_have_keys_of_their_own():
    chain = tickets.imp(train(), 0, 2, 0.2)
    ticket = chain[2]
    distinct = [
        *chain,
        *tickets.imp(train(), 1, 2, 0.2),
        *tickets.imp(train(), 0, 2, 0.3)[1:],
        *tickets.imp(train(), 0, 2, 0.2, scope="global")[1:],
        *tickets.imp(train(), 0, 2, 0.2, rewind_step=10)[1:],
        *tickets.imp(train(), 0, 2, 0.2, fresh_order=True)[1:],
        tickets.one_shot(train(), 0, 2, 0.2),
        *(tickets.reinitialised(ticket, 0, draw) for draw in (1, 2)),
        *(tickets.random_sparse(ticket, 0, draw) for draw in (1, 2)),
        *(tickets.shuffled(ticket, 0, draw) for draw in (1, 2)),
        dataclasses.replace(ticket, weights=Signed(Initial(0, 1), Initial(0))),
        dataclasses.replace(ticket, weights=Signed(Initial(0), Initial(0, 1))),
    ]
    assert len({run.key for run in distinct}) == len(distinct)


@pytest.mark.parametrize("level", [2.5, -1, "2"])
def test_one_shot_takes_whole_levels(level):
    with pytest.raises(RecipeError, match="level must be a whole number of at least 0"):
        tickets.one_shot(train(), 0, level, 0.2)


@pytest.mark.parametrize(
    "make",
    [
        lambda no: train(lr=no),
        lambda no: train(weight_decay=no),
        lambda no: train(optimiser="adam", momentum=0.0, adam_epsilon=no),
        lambda no: r.Noisy(Initial(0), no, 0),
        lambda no: landscape.Perturbed(Initial(0), Dense(), Initial(1), 0, multiple=no),
        lambda no: curvature.Adaptive(tickets.dense(train(), 0), no),
        lambda no: controls.EdgePopup(train(), Initial(0), 0.5, 1, no),
    ],
)
def test_what_is_multiplied_with_is_finite(make):
    make(0.5)
    for no in (math.inf, math.nan):
        with pytest.raises(RecipeError):
            make(no)


def test_one_shot_at_level_one_is_the_first_ticket():
    assert (
        tickets.one_shot(train(), 0, 1, {"fc": 0.2, "output": 0.1}).key
        == tickets.imp(train(), 0, 1, {"fc": 0.2, "output": 0.1})[1].key
    )


def test_masks_of_both_strategies_are_judged_from_the_initial_weights():
    found = tickets.strategies(train(), 1, 2, 0.2, fresh_order=True)
    assert found["resetting"] == tickets.imp(train(), 1, 2, 0.2, fresh_order=True)
    assert found["training on"][0] == found["resetting"][0]
    assert [run.weights for run in found["training on"][1:]] == [Rewound(found["resetting"][0], 0)] * 2
    first, second = (run.mask for run in found["training on"][1:])
    assert first == found["resetting"][1].mask and isinstance(second.run.weights, r.Continued)


def test_noise_stands_beside_the_ticket_and_its_reinitialisation():
    chains = [tickets.imp(train(), replicate, 2, 0.2) for replicate in range(2)]
    found = tickets.noised(chains, 1, [0.5, 3.0])
    assert list(found) == ["ticket", 0.5, 3.0, "reinitialised", "dense"]
    assert found["ticket"] == [chain[1] for chain in chains] and found["dense"] == [chain[0] for chain in chains]
    assert found[0.5] == [tickets.noisy(chain[1], i, 0.5) for i, chain in enumerate(chains)]
    assert found["reinitialised"] == [tickets.reinitialised(chain[1], i) for i, chain in enumerate(chains)]


def test_the_chain_does_not_depend_on_how_many_levels_follow():
    assert [run.key for run in tickets.imp(train(), 0, 2, 0.2)] == [
        run.key for run in tickets.imp(train(), 0, 5, 0.2)[:3]
    ]


# Pinned for ever: stores and published records hang on these. If one fails, old results are orphaned: give the field
# that was added a default that changes nothing, or, if results do change, raise `version` on purpose.

MNIST = dict(
    data="mnist",
    model="lenet-300-100",
    steps=50000,
    batch=60,
    optimiser="adam",
    lr=1.2e-3,
    scaling="unit-norm",
    evaluate=((10000, 100), (20000, 200), (50000, 1000)),
)


def pinned():
    digits, mnist = train(), r.training(**MNIST)
    chain = tickets.imp(mnist, 3, 4, {"fc": 0.2, "output": 0.1}, fresh_order=True)
    return {
        "dense": tickets.dense(digits, 0),
        "dense of the published study": chain[0],
        "ticket of the published study": chain[4],
        "its mask": chain[4].mask,
        "reinitialised": tickets.reinitialised(chain[4], 3),
        "random sparse": tickets.random_sparse(chain[4], 3),
        "shuffled": tickets.shuffled(chain[4], 3),
        "one-shot": tickets.one_shot(mnist, 3, 4, {"fc": 0.2, "output": 0.1}, fresh_order=True),
        "global, rewound to step 10": tickets.imp(train(**FIRST), 0, 1, 0.2, scope="global", rewind_step=10)[1],
        "signs kept": dataclasses.replace(chain[4], weights=Signed(Initial(3, 1), Initial(3))),
    }


PINNED = {
    "dense": "5f534543dca9d914633ee75b56250df36f751cd352c8870eca5b5dd71fe66469",
    "dense of the published study": "07aff19f55b8962aa8b4a7d1a2b72e6164e238d17c2567b8a18fd64151b10dd7",
    "ticket of the published study": "5ef6c5b8cf152696d0dd8081d6153163b0ed2f5397eafa81b31f592805680987",
    "its mask": "dd44c5b26e359597d1141eec1c529e9f78a49cad163e5db001b2a868a4f6ebe6",
    "reinitialised": "a77c4e76374ef6cf7a778b6dc2d8e3d041a6d4211fa0686f63785ad6d0910e11",
    "random sparse": "5516b3d0814bf57c0ce7b8390395d611248ea9a5a3c7847c5798eb7dee50e27a",
    "shuffled": "2134a25666cf18f4d955acab8a2f39106211d6aee8cec7d4a6fc129ec846ba5c",
    "one-shot": "2a0c239cb70387179152be85b09f5f418b871b97b786d001a89584e965bc1f92",
    "global, rewound to step 10": "f00d4b89e5aa91eac479b2711d5ca39618fa0015f4753e6fa40b55098daa238b",
    "signs kept": "6846b60e7dd940c6dd9ad0543f78cb7aa1007353e9f580aee5c951fae3fffade",
}


@pytest.mark.parametrize("name", PINNED)
def test_keys_never_change(name):
    assert pinned()[name].key == PINNED[name]


def test_a_key_is_64_hexadecimal_digits():
    assert re.fullmatch("[0-9a-f]{64}", tickets.dense(train(), 0).key)


@dataclasses.dataclass(frozen=True)
class Multiply:
    by: float


@dataclasses.dataclass(frozen=True)
class Clip(Multiply):
    pass


@r.frozen
class Altered(r.Weights):
    one: Multiply | None = None
    either: Multiply | Clip | None = None
    several: tuple[Multiply, ...] = ()
    other: object = None


@pytest.mark.parametrize("field", ["one", "either", "several"])
def test_values_of_two_types_have_two_keys(field):
    made = [kind(0.5) for kind in (Multiply, Clip)]
    one, other = (Altered(**{field: (value,) if field == "several" else value}) for value in made)
    assert one.key != other.key
    assert other.json()[field] in ({"class": "Clip", "by": 0.5}, [{"class": "Clip", "by": 0.5}])


def test_values_that_python_calls_equal_and_that_compute_otherwise_have_keys_of_their_own():
    @r.frozen
    class Limited(r.Weights):
        limit: object = 0.0
        several: object = (0, 1)

    assert len({Limited(limit).key for limit in (0.0, False, -0.0, None)}) == 4
    assert Limited(0).key == Limited(0.0).key == Limited(several=(0.0, 1)).key == Limited().key
    assert Limited(several=(False, True)).key != Limited().key


def test_the_only_type_that_a_field_allows_is_not_in_its_key():
    assert Altered(one=Multiply(0.5), several=(Multiply(2.0),)).json() == {
        "type": "Altered",
        "version": 1,
        "one": {"by": 0.5},
        "several": [{"by": 2.0}],
    }


@pytest.mark.parametrize(
    "value",
    [np.arange(3), np.float32(0.1), torch.arange(3), Path("x"), enum.Enum("E", "A")["A"], frozenset({1}), 1j, print],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_written_into_a_key_is_refused_by_the_name_of_its_field(value):
    for held in (value, (1, value), {"a": value}):
        kind = re.escape(type(value).__name__)
        with pytest.raises(
            RecipeError, match=f"the field other of Altered holds a {kind}, .*allowed are recipes, numbers"
        ):
            _ = Altered(other=held).key


# What a run rests on.


def test_a_ticket_starts_from_the_initial_weights_and_reads_only_its_mask():
    ticket = tickets.imp(train(), 0, 2, 0.2)[2]
    assert ticket.reads() == [(ticket.mask, None)]


def test_a_mask_reads_the_final_weights_of_its_run_and_the_mask_before():
    chain = tickets.imp(train(), 0, 2, 0.2)
    assert chain[2].mask.reads() == [(chain[1], 100), (chain[1].mask, None)]


def test_a_late_rewound_ticket_reads_the_dense_weights_at_that_step():
    chain = tickets.imp(train(), 0, 2, 0.2, rewind_step=10)
    assert (chain[0], 10) in chain[2].reads() and chain[2].start == 10


@dataclasses.dataclass(frozen=True)
class Pair:
    first: Run
    second: Run


@r.frozen
class Several(r.Recipe):
    held: object


def test_recipes_are_found_however_deep_a_field_holds_them():
    one, other = (tickets.dense(r.Training(**BASE), replicate) for replicate in range(2))
    for held in (((one, other),), {"one": one, "other": (other,)}, Pair(one, other), [[one], [other]]):
        assert Several(held).parts() == [one, other]


def test_the_closure_holds_each_recipe_once_and_after_what_it_reads():
    chain = tickets.imp(train(), 0, 3, 0.2)
    found = [recipe.key for recipe in r.closure([*chain, tickets.reinitialised(chain[3], 0)])]
    assert len(found) == len(set(found)) == 8  # 4 runs, 3 masks, 1 reinitialisation
    assert all(found.index(run.mask.run.key) < found.index(run.mask.key) < found.index(run.key) for run in chain[1:])


def test_a_long_chain_is_no_burden():
    assert len(r.closure(tickets.imp(train(), 0, 60, 0.1))) == 121


# What cannot be.


@pytest.mark.parametrize(
    "wrong, words",
    [
        (dict(steps=0), "steps: .*greater than or equal to 1"),
        (dict(lr=-1.0), "lr: .*greater than 0"),
        (dict(lr=float("nan")), "lr: "),
        (dict(optimiser="adagrad"), "optimiser: .*'adam' or 'sgd'"),
        (dict(scaling="loud"), "scaling: "),
        (dict(learning_rate=1.0), "learning_rate: "),
        (dict(batch="many"), "batch: .*integer"),
        (dict(momentum=0.9), "momentum is a setting of SGD"),
        (dict(milestones=(5, 3)), "milestones must be rising"),
        (dict(evaluate=((10, 0),)), "evaluate must be pairs"),
        (dict(validation=0), "validation: "),
    ],
)
def test_a_training_that_cannot_be_is_refused_in_one_line(wrong, words):
    with pytest.raises(RecipeError, match=words) as caught:
        train(**wrong)
    assert "\n" not in str(caught.value)


def test_a_key_of_a_dict_that_is_no_text_is_refused():
    with pytest.raises(RecipeError, match=r"the field other of Altered .* with the key 1: keys must be texts"):
        _ = Altered(other={1: "a"}).key
    assert Altered(other={"1": "a"}).key


def test_a_chain_without_a_next_level_has_no_disturbed_start_there():
    training = r.Training("digits", "lenet-30-20", 40, 60, "adam", 0.001)
    chain = tickets.imp(training, 0, 2, 0.2, rewind_step=10)
    for level in (2, 3, -1, 0.5):
        with pytest.raises(RecipeError, match="level"):
            tickets.from_perturbed_start(chain, level, 0)


@pytest.mark.parametrize("step", [-1, 101])
def test_rewinding_outside_the_run_is_refused(step):
    with pytest.raises(RecipeError, match=f"this Rewound cannot be: .*step.*{step}") as caught:
        Rewound(tickets.dense(train(), 0), step)
    assert "\n" not in str(caught.value) and "pydantic" not in str(caught.value)


def test_an_early_mask_is_of_a_step_of_its_run_and_rewinds_nothing():
    with pytest.raises(RecipeError, match="this Early cannot be: a run from step 0 to 100 has no weights at step 101"):
        Early(tickets.dense(train(), 0), 101, 0.5)


def test_recipes_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        tickets.dense(train(), 0).order = (1,)


def test_parts_of_the_wrong_kind_are_refused():
    with pytest.raises(RecipeError, match=r"weights: .*Weights.*mask: .*Mask"):
        Run(train(), Dense(), Initial(0))
    with pytest.raises(RecipeError, match="this Shuffled cannot be: mask: "):
        Shuffled(Initial(0), 0)


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda: tickets.imp(train(), 0, 1.5, 0.2), "levels must be a whole number of at least 0, not 1.5"),
        (
            lambda: tickets.retrained(train(), 0, "2", 0.2, "none"),
            "levels must be a whole number of at least 0, not '2'",
        ),
        (lambda: tickets.adaptive_imp(train(), 0, -1, 0.2), "levels must be a whole number of at least 0, not -1"),
        (lambda: tickets.every_nth(5, 0), "n must be a whole number of at least 1, not 0"),
        (lambda: tickets.rewind_points(train(), 0, 2), "early must be a whole number of at least 1, not 0"),
        (lambda: tickets.rewind_points(train(), 1, -2), "matching must be a whole number of at least 1, not -2"),
        (lambda: Spectrum(tickets.dense(train(), 0), epsilons=(0.1, 0.0)), r"epsilons\.1: .*greater than 0"),
        (lambda: Spectrum(tickets.dense(train(), 0), epsilons=(math.nan,)), r"epsilons\.0: .*(finite|greater than 0)"),
    ],
)
def test_numbers_that_cannot_be_are_refused_before_anything_is_made_of_them(wrong, words):
    with pytest.raises(RecipeError, match=words):
        wrong()


# Schedules in closed form.


def test_the_default_grid_has_a_hundred_intervals():
    assert train(steps=1000).grid() == list(range(0, 1001, 10))


def test_a_grid_dense_early_and_sparse_late():
    assert train(steps=100, evaluate=((20, 5), (100, 40))).grid() == [0, 5, 10, 15, 20, 60, 100]


def test_the_last_step_is_always_on_the_grid():
    assert train(steps=103, evaluate=((100, 50),)).grid() == [0, 50, 100, 103]


def test_the_grid_of_a_rewound_run_starts_where_it_starts_on_the_same_steps():
    assert train(steps=100, evaluate=((100, 20),)).grid(30) == [30, 40, 60, 80, 100]


def test_a_grid_never_leaves_the_run():
    assert train(steps=7, evaluate=((1000, 5),)).grid() == [0, 5, 7]


def test_the_learning_rate_falls_after_each_milestone():
    training = train(lr=1.0, milestones=(10, 20), gamma=0.5)
    assert [training.learning_rate(step) for step in (0, 9, 10, 19, 20, 99)] == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


def test_the_learning_rate_warms_up_linearly():
    training = train(lr=1.0, warmup=4)
    assert [training.learning_rate(step) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_controls_stand_beside_every_nth_ticket_and_nowhere_else():
    chains = [tickets.imp(train(), replicate, 5, 0.5) for replicate in range(2)]
    got = tickets.controls(chains, tickets.reinitialised, every=2, draws=3)
    assert [[[level for level, run in enumerate(draw) if run] for draw in row] for row in got] == 2 * [3 * [[1, 3, 5]]]
    assert got[1][2][3] == tickets.reinitialised(chains[1][3], 1, 3)


def test_rewind_points_rise_at_equal_ratios_and_lie_within_training():
    training = train(steps=62400)
    assert tickets.rewind_points(training, 250, 2000, 46800, between=2) == [0, 250, 500, 1000, 2000, 46800]
    assert tickets.rewind_points(training, 250, 2000) == [0, 250, 2000]
    for wrong in ((2000, 250), (250, 2000, 1000), (250, 2000, 62400), (1, 2, 0, 3)):
        with pytest.raises(RecipeError, match="must rise from 0"):
            tickets.rewind_points(training, *wrong)


def test_halvings_end_at_the_step_and_do_not_fall_below_one():
    assert tickets.halvings(80, 4) == [5, 10, 20, 40, 80]
    assert tickets.halvings(4, 9) == [1, 2, 4]
