"""One thread for all tests."""

from synthkit_torch.testing import one_thread  # noqa: F401 (a fixture)
