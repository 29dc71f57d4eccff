"""Let torch's OpenMP threads spin shortly where they wait for one another: imported for that, before torch is.

libgomp's threads spin for billions of rounds at a barrier, on cores that somebody else may need; after a thousand they
sleep. It reads the variable once, as torch loads it. GOMP_SPINCOUNT or OMP_WAIT_POLICY, where a person has set one, is
followed.
"""

import os
import sys

ROUNDS = 1000
"""ResNet-18 at 224, two threads on two cores, images per second idle, beside one process that burns a core, and beside
four: 13.5, 7.4, 4.4; as libgomp would have it 14.2, 5.3, 2.6; passive, which is no round at all, 14.0, 7.5, 4.2."""
VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")

if "torch" not in sys.modules and not any(name in os.environ for name in VARIABLES):
    os.environ["GOMP_SPINCOUNT"] = str(ROUNDS)
