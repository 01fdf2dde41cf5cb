"""The command line: each command reads its arguments, calls one function, prints the result.

options          the application, options that commands share, old names of commands and options
main             runs it: every error becomes a line and an exit code
new              a first config for a folder of data
pretrained       published weights: which there are, and how they come here
train            from a config to a trained network: train, summary, lr-find, compare ...
inference        a trained network in use: predict, evaluate, serve ...
export           a trained network handed on: its weights, a bundle, an ONNX file
explain          the command that explains a prediction
predict_output   what `predict` prints: lines, JSON or CSV
doctor           what `doctor` checks

A command has no logic of its own. Modules import what a command needs inside of it, so that
``convax --help`` waits for neither JAX nor matplotlib. An option that is renamed stays in
``options.RENAMED_OPTIONS``. Imports every room; no room imports this one.
"""
