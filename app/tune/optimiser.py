"""What to try next: Optuna's tree-structured Parzen estimator, told everything that was measured so far.

Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011; what misses a limit ranks behind all that
misses less.
"""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from hasten.app.errors import UserError
from hasten.app.tune.space import Choice, Dimension, Params, SearchSpace

RANDOM_TRIALS = 10
"""So many are measured before the estimator has a say."""
NUMPY_SEEDS = 2**32


class Told(NamedTuple):
    """A measured point: its seconds as a share of plain's, and by how much it misses the limits."""

    params: Params
    share: float
    violation: float


def require_optuna() -> Any:
    """The package `optuna`, silenced.

    Raises:
        UserError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise UserError("`hasten tune` needs optuna, which is not installed; install hasten[tune].") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def suggest(space: SearchSpace, history: Sequence[Told], seed: int) -> Params:
    """The next point to measure; the same for the same arguments, so that a search can stop and go on anywhere.

    Raises:
        UserError: optuna is not installed.
    """
    optuna = require_optuna()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=seed % NUMPY_SEEDS, n_startup_trials=RANDOM_TRIALS, multivariate=True, group=True
        )
    study = optuna.create_study(sampler=sampler)
    dimensions = space.dimensions
    for told in history:
        known = {name: _distribution(optuna, dimensions[name]) for name in told.params}
        study.add_trial(
            optuna.create_trial(
                params=told.params,
                distributions=known,
                value=told.share,
                constraints={"quality": told.violation},
            )
        )
    trial = study.ask()
    params: Params = {}
    for name, dimension in dimensions.items():
        if space.exists(name, params):
            params[name] = _ask(trial, name, dimension)
    return params


def _distribution(optuna: Any, dimension: Dimension) -> Any:
    if isinstance(dimension, Choice):
        return optuna.distributions.CategoricalDistribution(dimension.values)
    if isinstance(dimension.step, int):
        return optuna.distributions.IntDistribution(dimension.low, dimension.high, step=dimension.step)
    return optuna.distributions.FloatDistribution(dimension.low, dimension.high, step=dimension.step)


def _ask(trial: Any, name: str, dimension: Dimension) -> Any:
    if isinstance(dimension, Choice):
        return trial.suggest_categorical(name, dimension.values)
    suggest_number = trial.suggest_int if isinstance(dimension.step, int) else trial.suggest_float
    return suggest_number(name, dimension.low, dimension.high, step=dimension.step)
