"""A trained network for machines without convax.

manifest   what writing and verifying a bundle share: the format, the platforms, `BundleError`
loader     the texts that go into a bundle: ``load.py`` and ``README.md``
sign       a bundle's signature, by Ed25519
verify     checks each file of a bundle by its checksum, and runs its self-test
bundle     writes a bundle, then verifies it
onnx       writes an ONNX file, held against ONNX Runtime
int8       writes one that computes in int8, with what that costs measured

Who has a bundle reads it with what is in it: change ``load.py`` and the files together, and add a
format to ``manifest.FORMATS`` when an older `verify` could not read it. Imports
`inference.predictor` and what `training` needs to read a run.
"""
