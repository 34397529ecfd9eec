"""preimage: natural pre-images of vision representations (Mahendran & Vedaldi, IJCV 2016).

    import preimage
    phi = preimage.load_network("squeezenet1_1").layer("fire4")
    preimage.invert(phi, "photo.jpg").save("out")

Everything below is imported when it is first used, so that ``import preimage`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import metrics as metrics
    from . import solvers as solvers
    from . import tasks as tasks
    from .directions import Latents as Latents
    from .directions import factor_channels as factor_channels
    from .directions import image_text as image_text
    from .directions import learn_concept as learn_concept
    from .directions import load_autoencoder as load_autoencoder
    from .energy.diversity import Diversity as Diversity
    from .energy.energy import Energy as Energy
    from .energy.energy import Problem as Problem
    from .energy.keep_classes import ExpectedMargin as ExpectedMargin
    from .energy.keep_classes import KeepClasses as KeepClasses
    from .energy.losses import Euclidean as Euclidean
    from .energy.losses import InnerProduct as InnerProduct
    from .energy.losses import Loss as Loss
    from .energy.margin import Distinguish as Distinguish
    from .energy.margin import Margin as Margin
    from .energy.objectives import Activate as Activate
    from .energy.objectives import Dream as Dream
    from .energy.objectives import Exaggerate as Exaggerate
    from .energy.objectives import Gram as Gram
    from .energy.objectives import Match as Match
    from .energy.objectives import Objective as Objective
    from .energy.parameterizations import Parameterization as Parameterization
    from .energy.parameterizations import Pixels as Pixels
    from .energy.patches import PatchMixture as PatchMixture
    from .energy.patches import PatchPrior as PatchPrior
    from .energy.patches import load_patch_mixture as load_patch_mixture
    from .energy.regularizers import AlphaNorm as AlphaNorm
    from .energy.regularizers import PixelBall as PixelBall
    from .energy.regularizers import Regularizer as Regularizer
    from .energy.regularizers import TVBeta as TVBeta
    from .energy.terms import FeatureTerm as FeatureTerm
    from .energy.transforms import Jitter as Jitter
    from .energy.transforms import Transform as Transform
    from .errors import FetchError as FetchError
    from .errors import ImageError as ImageError
    from .errors import InputError as InputError
    from .errors import Interrupted as Interrupted
    from .errors import MissingExtra as MissingExtra
    from .errors import OptimizationError as OptimizationError
    from .errors import PreimageError as PreimageError
    from .errors import PreimageWarning as PreimageWarning
    from .errors import ResultFolderError as ResultFolderError
    from .errors import UnknownName as UnknownName
    from .experiments.activation_atlas import activation_atlas as activation_atlas
    from .experiments.audit import Audit as Audit
    from .experiments.audit import Threat as Threat
    from .experiments.audit import audit as audit
    from .experiments.methods import Comparison as Comparison
    from .experiments.methods import compare as compare
    from .inverses import Layerwise as Layerwise
    from .inverses import LayerwiseInverse as LayerwiseInverse
    from .inverses import LearnedInverse as LearnedInverse
    from .inverses import Linear as Linear
    from .inverses import LinearInverse as LinearInverse
    from .inverses import Nearby as Nearby
    from .inverses import Upconv as Upconv
    from .inverses import UpconvInverse as UpconvInverse
    from .inverses import fit_inverse as fit_inverse
    from .inverses import free_photographs as free_photographs
    from .inverses import inverse_of as inverse_of
    from .inverses import load_inverse as load_inverse
    from .inverses import shipped_inverse as shipped_inverse
    from .inverses import start_from_inverse as start_from_inverse
    from .inverses.patches import fit_patch_prior as fit_patch_prior
    from .methods.recipe import Parts as Parts
    from .methods.recipe import Recipe as Recipe
    from .methods.recipe import recipes as recipes
    from .networks.network import Network as Network
    from .networks.network import load_network as load_network
    from .pixels import images as images
    from .pixels.pixelspace import PixelSpace as PixelSpace
    from .representations import masks as masks
    from .representations.base import Representation as Representation
    from .representations.base import Wrapped as Wrapped
    from .representations.base import as_representation as as_representation
    from .representations.base import from_callable as from_callable
    from .representations.brief import BRIEF as BRIEF
    from .representations.cnn import Layer as Layer
    from .representations.codes import LLC as LLC
    from .representations.codes import SparseCodes as SparseCodes
    from .representations.dsift import DenseSIFT as DenseSIFT
    from .representations.encodings import VLAD as VLAD
    from .representations.encodings import BagOfWords as BagOfWords
    from .representations.encodings import FisherVector as FisherVector
    from .representations.encodings import SuperVector as SuperVector
    from .representations.freak import FREAK as FREAK
    from .representations.hog import HOG as HOG
    from .representations.lbp import LBP as LBP
    from .representations.leung_malik import LeungMalik as LeungMalik
    from .representations.listing import LayerInfo as LayerInfo
    from .representations.listing import layers as layers
    from .representations.textons import Textons as Textons
    from .representations.vectors import load_direction as load_direction
    from .representations.vocabulary import Vocabulary as Vocabulary
    from .representations.vocabulary import learn_vocabulary as learn_vocabulary
    from .representations.vocabulary import load_vocabulary as load_vocabulary
    from .solvers.compute import Compute as Compute
    from .solvers.loop import minimize as minimize
    from .solvers.monitor import Monitor as Monitor
    from .solvers.run import Stage as Stage
    from .statistics import Keep as Keep
    from .statistics import Matches as Matches
    from .statistics import Statistics as Statistics
    from .statistics import collect_statistics as collect_statistics
    from .statistics import load_statistics as load_statistics
    from .statistics import match_units as match_units
    from .tasks.again import again as again
    from .tasks.caricature import caricature as caricature
    from .tasks.invert import invert as invert
    from .tasks.maximize import maximize as maximize
    from .tasks.natural import PathCheck as PathCheck
    from .tasks.natural import natural_check as natural_check
    from .tasks.natural import path_check as path_check
    from .tasks.result import CaricatureResult as CaricatureResult
    from .tasks.result import InversionResult as InversionResult
    from .tasks.result import MaximizationResult as MaximizationResult
    from .tasks.result import Result as Result
    from .tasks.result import load_result as load_result
    from .tasks.saliency import Saliency as Saliency
    from .tasks.saliency import saliency as saliency

__version__ = "0.1.0"

_HOMES = {
    "energy.energy": ["Energy", "Problem"],
    "energy.losses": ["Euclidean", "InnerProduct", "Loss"],
    "energy.diversity": ["Diversity"],
    "energy.keep_classes": ["ExpectedMargin", "KeepClasses"],
    "energy.margin": ["Distinguish", "Margin"],
    "energy.objectives": ["Activate", "Dream", "Exaggerate", "Gram", "Match", "Objective"],
    "energy.parameterizations": ["Parameterization", "Pixels"],
    "energy.patches": ["PatchMixture", "PatchPrior", "load_patch_mixture"],
    "energy.terms": ["FeatureTerm"],
    "energy.transforms": ["Jitter", "Transform"],
    "errors": [
        "FetchError", "ImageError", "InputError", "Interrupted", "MissingExtra", "OptimizationError", "PreimageError",
        "PreimageWarning", "ResultFolderError", "UnknownName",
    ],
    "experiments.activation_atlas": ["activation_atlas"],
    "experiments.audit": ["Audit", "Threat", "audit"],
    "experiments.methods": ["Comparison", "compare"],
    "inverses": [
        "Layerwise", "LayerwiseInverse", "LearnedInverse", "Linear", "LinearInverse", "Nearby", "Upconv", "UpconvInverse", "fit_inverse",
        "free_photographs", "inverse_of", "load_inverse", "shipped_inverse", "start_from_inverse",
    ],
    "networks.network": ["Network", "load_network"],
    "solvers.compute": ["Compute"],
    "solvers.loop": ["minimize"],
    "solvers.run": ["Stage"],
    "methods.recipe": ["Parts", "Recipe", "recipes"],
    "pixels.pixelspace": ["PixelSpace"],
    "energy.regularizers": ["AlphaNorm", "PixelBall", "Regularizer", "TVBeta"],
    "representations.base": ["Representation", "Wrapped", "as_representation", "from_callable"],
    "representations.cnn": ["Layer"],
    "representations.listing": ["LayerInfo", "layers"],
    "representations.dsift": ["DenseSIFT"],
    "representations.codes": ["LLC", "SparseCodes"],
    "representations.encodings": ["BagOfWords", "FisherVector", "SuperVector", "VLAD"],
    "representations.brief": ["BRIEF"],
    "representations.freak": ["FREAK"],
    "representations.hog": ["HOG"],
    "representations.lbp": ["LBP"],
    "representations.leung_malik": ["LeungMalik"],
    "representations.textons": ["Textons"],
    "representations.vocabulary": ["Vocabulary", "learn_vocabulary", "load_vocabulary"],
    "tasks.result": ["CaricatureResult", "InversionResult", "MaximizationResult", "Result", "load_result"],
    "directions": ["Latents", "factor_channels", "image_text", "learn_concept", "load_autoencoder"],
    "representations.vectors": ["load_direction"],
    "tasks.natural": ["PathCheck", "natural_check", "path_check"],
    "statistics": ["Keep", "Matches", "Statistics", "collect_statistics", "load_statistics", "match_units"],
    "inverses.patches": ["fit_patch_prior"],
    "tasks.again": ["again"],
    "tasks.caricature": ["caricature"],
    "solvers.monitor": ["Monitor"],
    "tasks.invert": ["invert"],
    "tasks.maximize": ["maximize"],
    "tasks.saliency": ["Saliency", "saliency"],
}  # fmt: skip
_HOME = {name: home for home, names in _HOMES.items() for name in names}
_MODULES = {"images": "pixels.images", "masks": "representations.masks", "metrics": "metrics", "solvers": "solvers", "tasks": "tasks"}

__all__ = ["__version__", *sorted([*_HOME, *_MODULES])]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f".{_MODULES[name]}", __name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME, *_MODULES])
