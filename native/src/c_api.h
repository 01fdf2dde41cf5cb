// What Python calls through ctypes: plain C, without XLA.
#pragma once

#include <cstdint>

#pragma GCC visibility push(default)  // all else is hidden
extern "C" {

// Of everything that Python relies on: the numbers below, and the names and attributes in ffi.cc.
int32_t convax_kernels_interface();

// The API of XLA that ffi.cc was compiled for.
void convax_kernels_ffi_api(int32_t* major, int32_t* minor);

// Whether this processor has all instructions of a level: 4 of x86-64-v4, 3 of x86-64-v3.
int32_t convax_kernels_supports(int32_t level);

// Computes one function on `threads` threads of its own. `algorithm`: 0 direct, 1 Winograd, 2
// depthwise; `kind`: 0 conv, 1 input_grad, 2 kernel_grad; `shape`: batch, in, out, groups, and for
// each axis size, window, output, stride, dilation and low. Returns 0; 1 for what is no convolution
// or not one for the algorithm; 2 without memory.
int32_t convax_kernels_run(int32_t algorithm, int32_t kind, const int64_t* shape, const float* a,
                           const float* b, float* result, int64_t threads);
}  // extern "C"
#pragma GCC visibility pop
