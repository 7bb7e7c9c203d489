"""Two threads, as on the smallest machine the suite is meant for."""

import matplotlib
import torch

matplotlib.use("Agg")
torch.set_num_threads(min(2, torch.get_num_threads()))
