"""The engine process: the only place that knows mlx and the model."""

import resource

_set = resource.setrlimit


def _within(which: int, limits: tuple[int, int]) -> None:
    """As `resource.setrlimit`, but of what is more than may be had, take what there is.

    mlx-lm asks for 4,096 open files when it is imported, and fails where a container or an administrator allows fewer.
    """
    most = resource.getrlimit(which)[1]
    if most != resource.RLIM_INFINITY:
        soft, hard = (most if limit == resource.RLIM_INFINITY else min(limit, most) for limit in limits)
        limits = soft, hard
    _set(which, limits)


resource.setrlimit = _within
