"""One thread for every test: a shared machine is otherwise a hundred times slower."""

import torch

torch.set_num_threads(1)
