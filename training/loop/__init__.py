"""The training loop, and how it survives being killed.

loop             `train` and `resume`: from a config or a run to a finished run
chunk_loop       the loop itself, of one network or of many, over any `StepProgram`
single_program   the compiled steps of one network (those of many: `experiments.batched_program`)
chunks           several steps a call of the device, and the batches for them
callbacks        code of one's own that looks on, and may ask to stop
context          what the loop needs of one network, as one value, and where it begins
recorder         what is kept behind each chunk: metrics, evaluations, checkpoints
checkpointing    saving beside the training, and which checkpoints are kept
final            what is fitted behind the last step, once: `Task.finalize`
resume           where a run goes on, and whether it may
extend           a new run that goes on where a finished one has ended
metric_window    the metrics of steps, reported in windows
early_stopping   when to stop before the last step
nonfinite        what a step that is not finite leaves behind
plateau          when to lower the learning rate
progress         what a person sees
signals          Ctrl-C, SIGTERM, SIGHUP: noted, then `InterruptedRun`
following        what follows the metrics of a run, line by line
tensorboard      event files
tracking         trackers, fed from the metrics: `training.trackers`

A resumed run ends with the same bytes as one that never stopped: nothing here may decide by the
clock what a step computes. Imports everything below, and nothing of `experiments`.
"""
