"""Regatta: regression models trained on CSV files by a multiprocessing parameter server.

This module imports the standard library only: every worker process imports it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regatta.estimators import DistributedElasticNet as DistributedElasticNet
    from regatta.estimators import DistributedElasticNetCV as DistributedElasticNetCV
    from regatta.estimators import DistributedLasso as DistributedLasso
    from regatta.estimators import DistributedLassoCV as DistributedLassoCV
    from regatta.estimators import DistributedLinearRegression as DistributedLinearRegression
    from regatta.estimators import DistributedRidge as DistributedRidge
    from regatta.estimators import DistributedRidgeCV as DistributedRidgeCV

__version__ = "0.1.0"

_MODELS = ("ElasticNet", "ElasticNetCV", "Lasso", "LassoCV", "LinearRegression", "Ridge", "RidgeCV")
_ESTIMATORS = tuple(f"Distributed{model}" for model in _MODELS)


def __getattr__(name: str) -> Any:
    """The estimators, imported when first asked for: scikit-learn takes a second."""
    if name in _ESTIMATORS:
        from regatta import estimators

        return getattr(estimators, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ESTIMATORS])
