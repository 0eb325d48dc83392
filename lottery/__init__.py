"""Lottery tickets, reproduced: iterative magnitude pruning and what is measured of its tickets.

The house has three rooms, and imports point one way, from the last to the first::

    lottery/          the science, which knows nothing of devices, files and notebooks
        recipes       what a run is, as frozen values that know how they come about
        tickets       iterative magnitude pruning and every ablation, each a few lines that build recipes
        controls      masks and starts that pruning does not find: controls, losing tickets, learned masks
        data models masks seeds
        landscape curvature signs kernels movement association marks worth
                      what is measured of trained networks, with the recipes that name the measurements
        stats         spread, intervals, equivalence
    lottery.engine/   how runs are computed: train, network, batches; plan, execute, workers; store, settings
    lottery.book/     how chapters become pages: parameters, chapter, claims, figures, explorers, runner, gates, build

To read how a ticket is found: `tickets.imp`, then `recipes.Run`, `recipes.Pruned` and `engine.train.train`. To compute
one: the README's section on your own network and data.
"""

__version__ = "0.2.0"


class LotteryError(Exception):
    """An error whose message tells the user what to do; the command line prints it without a traceback."""
