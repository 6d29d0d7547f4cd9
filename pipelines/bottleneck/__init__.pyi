from .choices import Interpolation, Transition
from .dynamic_shift import LINEAR_MU, MuLaw
from .flops import TransformerFlops, speedup
from .noise import NoiseLevel, Prediction, predict_noise, predict_x0, renoise
from .resizing import Container, pack, resize, unpack
from .run import BottleneckRun, StageBoundary
from .schedule import Stage, shift_of_mu, shifted, stage_sigmas
from .scheduler import bottleneck_scheduler
from .stages import check_scheduler, has_shift, noise_level
from .transitions import carry_noise, snr_matched

__all__ = [
    "LINEAR_MU",
    "BottleneckRun",
    "Container",
    "Interpolation",
    "MuLaw",
    "NoiseLevel",
    "Prediction",
    "Stage",
    "StageBoundary",
    "TransformerFlops",
    "Transition",
    "bottleneck_scheduler",
    "carry_noise",
    "check_scheduler",
    "has_shift",
    "noise_level",
    "pack",
    "predict_noise",
    "predict_x0",
    "renoise",
    "resize",
    "shift_of_mu",
    "shifted",
    "snr_matched",
    "speedup",
    "stage_sigmas",
    "unpack",
]
