"""Arrays of a network in files, without a run around them.

safetensors_io     safetensors files, read and written without PyTorch
weights            parameters and state by their paths
torch_file         PyTorch's .pt and .pth, whose code is never run
published          weights that others have published: where, and for which architecture
torch_state_dict   a network's arrays under PyTorch's names, in and out

The names and the memory layout of PyTorch are `model.torch`'s. Imports `training.common`, `model`.
"""
