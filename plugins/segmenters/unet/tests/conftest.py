"""One thread for all tests, and no GPU."""

from synthkit_torch.testing import no_gpu, one_thread  # noqa: F401 (fixtures)
