"""The benchmarks are scripts beside each other; here their pure parts are imported as they import them."""

import sys

from documents import ROOT

sys.path.append(str(ROOT / "tests" / "bench"))
