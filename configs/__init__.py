"""The configs that ship with convax: one TOML file for each experiment."""
