"""A trained network in use: predictions, a service, and a bundle that runs without convax.

compile_cache     compiled programs kept on disk for the next process
image_inputs      images of any kind and size made fit for a network; folders of them
ensemble          which runs are meant, and whether they can predict together
forward           the jitted function: preprocessing, network, postprocessing, temperature
predictor         `load`, and the `Predictor` that it gives: calls, streams, top k
calibrate         calibrate a run on its validation split
speed             how long a prediction takes
predict_files     what `convax predict` does with files: one prediction after the other
contact_sheet     the same as a page of images with their predictions

calibration       ``calibration.json`` in a run
html              templates, and the heat map that pages show
export            a bundle, and an ONNX file
report            ``report.html`` of a run
serve             an HTTP service

To change what a task says of an image, look into its folder in `training.tasks`: nothing here
compares a task's name. What a run wrote is read by `training.run`; file formats that are written
here (``calibration.json``, bundles) have a format number, which a change has to raise. Imports
`explain` and `training` without its `loop`, `step` and `experiments`.
"""
