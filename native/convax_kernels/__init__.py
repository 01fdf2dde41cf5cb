"""Native convolutions for convax: libraries that `convax.ops.conv.native` loads by ctypes."""
