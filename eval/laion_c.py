"""LAION-C (Li et al., 2025): its distortions, and which of ImageNet's classes each of its 16 superclasses has.

From FanfeiLi/LAION-C, `category_mapping.json`. A network answers with the superclass whose classes have the greatest
mean probability, of the softmax over all of its classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from apr_dali.errors import InputError

DISTORTIONS = ("mosaic", "glitched", "vertical_lines", "stickers", "geometric_shapes", "luminance_checkerboard")
"""The folders of the set, each with its five intensities."""
_CLASSES = {
    "ball": """
n02799071 n02802426 n04118538 n04254680 n04409515 n04540053
""",
    "bird": """
n01514859 n01530575 n01531178 n01532829 n01534433 n01537544 n01558993 n01560419 n01582220 n01592084 n01601694 n01614925
n01616318 n01622779 n01795545 n01796340 n01797886 n01798484 n01817953 n01818515 n01819313 n01820546 n01824575 n01828970
n01829413 n01833805 n01843065 n01843383 n01855032 n01855672 n01860187 n02002556 n02002724 n02006656 n02007558 n02009229
n02009912 n02011460 n02013706 n02017213 n02018207 n02018795 n02025239 n02027492 n02028035 n02033041 n02037110 n02051845
n02056570
""",
    "boat": """
n02951358 n03095699 n03344393 n03447447 n03662601 n04273569 n04612504
""",
    "bottle": """
n02823428 n03937543 n03983396 n04557648 n04560804 n04579145 n04591713
""",
    "butterfly": """
n02276258 n02277742 n02279972 n02280649 n02281406 n02281787
""",
    "car_truck": """
n02814533 n03100240 n03345487 n03417042 n03770679 n03796401 n03930630 n03977966 n04285008 n04461696 n04467665
""",
    "cat": """
n02123045 n02123159 n02123394 n02123597 n02124075 n02125311
""",
    "chair": """
n02791124 n03376595 n03891251 n04099969 n04344873 n04429376
""",
    "dog": """
n02085782 n02085936 n02086079 n02086240 n02086646 n02086910 n02087046 n02087394 n02088094 n02088238 n02088364 n02088466
n02088632 n02089078 n02089867 n02089973 n02090379 n02090622 n02090721 n02091032 n02091134 n02091244 n02091467 n02091635
n02091831 n02092002 n02092339 n02093256 n02093428 n02093647 n02093754 n02093859 n02093991 n02094114 n02094258 n02094433
n02095314 n02095570 n02095889 n02096051 n02096294 n02096437 n02096585 n02097047 n02097130 n02097209 n02097298 n02097474
n02097658 n02098105 n02098286 n02099267 n02099429 n02099601 n02099712 n02099849 n02100236 n02100583 n02100735 n02100877
n02101006 n02101388 n02101556 n02102040 n02102177 n02102318 n02102480 n02102973 n02104029 n02104365 n02105056 n02105162
n02105251 n02105505 n02105641 n02105855 n02106030 n02106166 n02106382 n02106550 n02106662 n02107142 n02107312 n02107574
n02107683 n02107908 n02108000 n02108422 n02108551 n02108915 n02109047 n02109525 n02109961 n02110063 n02110185 n02110627
n02110806 n02110958 n02111129 n02111277 n02111500 n02112018 n02112350 n02112706 n02113023 n02113624 n02113712 n02113799
n02113978
""",
    "fish": """
n01440764 n01443537 n01484850 n01491361 n01494475 n02066245 n02071294 n02607072 n02640242 n02641379 n02643566 n02655020
""",
    "fruit": """
n07742313 n07745940 n07747607 n07749582 n07753275 n07753592
""",
    "instruments": """
n02672831 n02676566 n02787622 n02804610 n03272010 n03372029 n03394916 n03452741 n03494278 n03495258 n04141076 n04515003
n04536866
""",
    "primate": """
n02480495 n02480855 n02481823 n02483362 n02483708 n02484975 n02486261 n02486410 n02487347 n02488291 n02488702 n02489166
n02490219 n02492035 n02492660 n02493509 n02493793 n02494079
""",
    "snakes": """
n01728572 n01728920 n01729322 n01729977 n01735189 n01737021 n01739381 n01740131 n01742172 n01744401 n01748264 n01749939
n01751748 n01753488 n01755581 n01756291
""",
    "timekeeping": """
n02708093 n03196217 n03197337 n04328186 n04355338 n04548280
""",
    "tools": """
n03000684 n03041632 n03481172 n03498962 n03995372 n04154565 n04208210
""",
}
SUPERCLASSES = {name: tuple(text.split()) for name, text in _CLASSES.items()}
"""WordNet ids by the name of the superclass, which its class folder has; names are sorted."""


class Superclassed(nn.Module):
    """A network of ImageNet's classes that answers with LAION-C's 16 superclasses.

    Its outputs are the logarithms of the mean probabilities of their classes, in the order of SUPERCLASSES.
    """

    def __init__(self, model: nn.Module, classes: Sequence[str]) -> None:
        """classes: of the network, in the order of its outputs. InputError where one of the set's is not there."""
        super().__init__()
        number = {name: index for index, name in enumerate(classes)}
        missing = sorted({name for names in SUPERCLASSES.values() for name in names} - set(number))
        if missing:
            raise InputError(
                f"LAION-C asks for classes of ImageNet by WordNet ids, of which the network lacks {len(missing)}: "
                f"{', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}"
            )
        self.model = model
        self.weights: Tensor
        weights = torch.zeros(len(classes), len(SUPERCLASSES))
        for column, names in enumerate(SUPERCLASSES.values()):
            weights[[number[name] for name in names], column] = 1 / len(names)
        self.register_buffer("weights", weights)

    def forward(self, images: Tensor) -> Tensor:
        # In float32 whatever the network computes in: the least of these probabilities matter.
        logits = self.model(images).float()
        chosen = logits.log_softmax(1)[:, :, None] + self.weights.log()
        return chosen.logsumexp(1)
