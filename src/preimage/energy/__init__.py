"""The energy and its parts. Those that register themselves are imported here, so that each can be chosen by its name."""

from . import deep_prior as deep_prior
from . import fourier as fourier
from . import levels as levels
from . import margin as margin
from . import priors as priors
from . import resampling as resampling
from . import styles as styles
from . import views as views
