"""A trained network in use: predictions, a service, and a bundle that runs without convax."""
