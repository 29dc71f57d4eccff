"""The methods that tables compare: how the trainers train them, or why these do not."""

from __future__ import annotations

from apr_dali.bands import BANDS
from apr_dali.recipes import CIFAR, IMAGENET, uses_pair
from apr_dali.reproduce.follow import Follow, Options
from apr_dali.reproduce.plan import Method
from apr_dali.training.options import CIFAR_RECIPES

_APR = {"apr-p": "APR-P", "apr-s": "APR-S", "apr-sp": "APR-SP"}
_AUGMIX_VIEWS = 3.0
LAMBDAS = tuple(n / 10 for n in range(11))
DEEP = ("EDSR", "CAE")


def _aug(name: str, title: str, aug: str, follow: Follow, passes: float = 1.0) -> Method:
    return Method(name, title, {"aug": (aug,), **follow.of_augmentation(aug)}, passes)


def _apr(name: str, follow: Follow, share: float) -> Method:
    """share: of the batches, that APR-P mixes and shows in two views."""
    return _aug(name, _APR[name], name, follow, 1 + share * uses_pair(name))


def table1(follow: Follow) -> tuple[Method, ...]:
    """The ten of Table 1."""
    apr = {name: _apr(name, follow, CIFAR.pair_probability) for name in _APR}
    return (
        _aug("standard", "Standard", "none", follow),
        _aug("cutout", "Cutout", "cutout", follow),
        _aug("mixup", "Mixup", "mixup", follow),
        _aug("cutmix", "CutMix", "cutmix", follow),
        Method(
            "adv-training",
            "Adv Training",
            why="the paper does not say how; the trainer's --adversarial is the FGSM of Table 3",
        ),
        apr["apr-p"],
        _aug("autoaugment", "AutoAugment", "autoaugment", follow),
        _aug("augmix", "AugMix", "augmix", follow, _AUGMIX_VIEWS),
        apr["apr-s"],
        apr["apr-sp"],
    )


def table2(follow: Follow) -> tuple[Method, ...]:
    """The eight of Table 2."""
    contrastive = "contrastive training with a loss of its own, which the trainer does not have"
    return (
        _aug("standard", "Cross Entropy (CE)", "none", follow),
        _aug("cutout", "CE w/ Cutout", "cutout", follow),
        _aug("mixup", "CE w/ Mixup", "mixup", follow),
        _apr("apr-p", follow, CIFAR.pair_probability),
        Method("supclr", "SupCLR", why=contrastive),
        Method("csi", "CSI", why=contrastive),
        _apr("apr-s", follow, CIFAR.pair_probability),
        _apr("apr-sp", follow, CIFAR.pair_probability),
    )


def table3(follow: Follow) -> tuple[Method, ...]:
    """The five of Table 3, by the trainer's recipes of the released settings."""
    refused = "the trainer's adversarial training goes with APR or with no augmentation"
    trained = {name: _adversarial(name, follow) for name in ("fgsm", "fgsm-apr-p", "fgsm-apr-s", "fgsm-apr-sp")}
    return (
        trained.pop("fgsm"),
        Method("fgsm-cutout", "FGSM w/ Cutout", why=refused),
        *trained.values(),
    )


def _adversarial(recipe: str, follow: Follow) -> Method:
    aug = CIFAR_RECIPES[recipe].values.get("aug", "none")
    title = f"FGSM w/ {_APR[aug]}" if aug in _APR else "FGSM"
    options: Options = {"recipe": (recipe,), **follow.of_augmentation(aug)}
    # The gradient of the attack and that of the weights; with APR-P both views of every batch.
    return Method(recipe, title, options, 2.0 * (2 if uses_pair(aug) else 1))


def table4(follow: Follow) -> tuple[Method, ...]:
    """The twelve of Table 4."""
    none: Options = {"aug": ("none",)}
    apr = {name: _apr(name, follow, IMAGENET.pair_probability) for name in _APR}
    sp = apr["apr-sp"]
    return (
        Method("standard", "Standard", none),
        Method("patch-uniform", "Patch Uniform", why="the trainer has no noise in patches"),
        Method("autoaugment", "AutoAugment", {**none, "policy": ("autoaugment",)}),
        Method(
            "random-aa", "Random AA", why="AutoAugment with drawn operations; --policy randaugment is another method"
        ),
        Method("maxblur-pool", "MaxBlur pool", why="another network than ResNet-50, with blurred pooling"),
        Method("sin", "SIN", why="trained on Stylized-ImageNet, drawings that the trainer does not make"),
        Method("augmix", "AugMix", why="--policy augmix is one view of it, without its divergence of three"),
        apr["apr-s"],
        apr["apr-p"],
        sp,
        Method("deepaugment", "DeepAugment", none, needs=DEEP),
        Method("deepaugment-apr-sp", "DeepAugment + APR-SP", sp.options, sp.passes, DEEP),
    )


def heat_maps(follow: Follow) -> tuple[Method, ...]:
    """What the heat maps are of."""
    return (_aug("standard", "Standard", "none", follow), *(_apr(n, follow, CIFAR.pair_probability) for n in _APR))


def band_name(amplitude: str, phase: str) -> str:
    """What a pair of Fig. 4 is called."""
    return f"amplitude-{amplitude}-phase-{phase}"


def figure4(follow: Follow) -> tuple[Method, ...]:
    """The sixteen pairs of bands of Fig. 4."""
    found = []
    for amplitude in BANDS:
        for phase in BANDS:
            outside = f",outside={follow.outside}" if follow.outside and phase != "full" else ""
            spectrum = f"amplitude={amplitude},phase={phase}{outside}"
            title = f"amplitude {amplitude}, phase {phase}"
            found.append(Method(band_name(amplitude, phase), title, {"aug": ("none",), "spectrum": (spectrum,)}))
    return tuple(found)


def lambda_name(weight: float) -> str:
    """What a weight of Fig. 9 is called."""
    return f"lambda-{weight:g}"


def figure9(follow: Follow) -> tuple[Method, ...]:
    """The eleven weights of Fig. 9: APR-P with a second head."""
    apr = _apr("apr-p", follow, CIFAR.pair_probability)
    assert apr.options is not None
    return tuple(
        Method(lambda_name(weight), f"λ = {weight:g}", {**apr.options, "phase-weight": (f"{weight:g}",)}, apr.passes)
        for weight in LAMBDAS
    )
