"""Where others look at a training: Weights & Biases, MLflow, Trackio. ``[logging]`` names them.

tracker     what each of them is: figures by step, the config, how it ended
to_wandb    Weights & Biases
to_mlflow   MLflow
to_trackio  Trackio
record      what one of them has of a run: kept in the run directory, so that a resumed run goes on
worker      one of them on a thread of its own: one that fails, or takes long, stops no training

Each is a package of its own, an extra of convax. One more is one more file, an entry in
`training.loop.tracking.TRACKERS` and a key of `training.config.sweep.Logging`. TensorBoard's event
files, which are files of the run, are `training.loop.tensorboard`'s.
"""
