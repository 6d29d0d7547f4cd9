import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "kernels"))  # for its oracle
